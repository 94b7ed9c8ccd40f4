#!/usr/bin/env bash
# The student: few pairs with their images, distilled from the teacher, or from what cache_teacher.sh
# wrote down of it; with TEACHER= (empty) the same student without one. The settings are those of its
# size, in configs/. Run from the repository's root.
set -euo pipefail

WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/student-data}
TEACHER=${TEACHER-$WORK/teacher/checkpoint_best.pt}      # or several, separated by colons
CACHE=${CACHE:-}                                         # instead of the teacher
SAVE=${SAVE:-$WORK/student}
SEED=${SEED:-1}
SIZE=${SIZE:-1k}                                         # 1k, 5k, 10k or full: whose settings
CONFIGS=${CONFIGS:-examples/multi30k/configs}

settings=$CONFIGS/$SIZE.options
inputs=(--image-h5 "$WORK/images.h5")
if [[ -n $CACHE ]]; then
    inputs+=(--teacher-cache "$CACHE")
elif [[ -n $TEACHER ]]; then
    inputs+=(--teacher-path "$TEACHER")
else
    settings=$CONFIGS/$SIZE-undistilled.options
fi
if [[ ! -f $settings ]]; then echo "error: SIZE=$SIZE has no $settings" >&2; exit 1; fi

fairseq-train "$DATA" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    "${inputs[@]}" \
    $(sed 's/#.*//' "$settings" "$CONFIGS/image.options") \
    --seed "$SEED" \
    --save-dir "$SAVE" \
    --log-format simple \
    --log-interval 100 \
    "$@"
