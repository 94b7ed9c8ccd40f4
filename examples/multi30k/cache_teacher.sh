#!/usr/bin/env bash
# Write down what the teacher says of the student's sentences; then
#   CACHE=multi30k/teacher.h5 bash examples/multi30k/train_student.sh
# needs no teacher. Run from the repository's root.
set -euo pipefail

SOURCE=${SOURCE:-en} TARGET=${TARGET:-de}                    # of en, de, fr and cs
WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/student-data}
TEACHER=${TEACHER:-$WORK/teacher/checkpoint_best.pt}     # or several, separated by colons
CACHE=${CACHE:-$WORK/teacher.h5}
TEACHER_IMAGES=${TEACHER_IMAGES:-}                       # the image store, for a teacher that looks at images
PYTHON=${PYTHON:-python}

looking=()
if [[ -n $TEACHER_IMAGES ]]; then looking=(--image-h5 "$TEACHER_IMAGES" --image-missing mask); fi

$PYTHON preprocess/cache_teacher.py "$DATA" \
    --source-lang "$SOURCE" \
    --target-lang "$TARGET" \
    "${looking[@]}" \
    --teacher-path "$TEACHER" \
    --topk 8 \
    --output "$CACHE" \
    "$@"
