#!/usr/bin/env bash
# The student learns from the real pairs and the teacher's translations; with LEVEL=both also from the
# teacher's probabilities of every token of these. The settings are the student's of examples/multi30k,
# but for the number of epochs, which are longer here. Run from the repository's root, after prepare.sh.
set -euo pipefail

export WORK=${WORK:-multi30k}                            # what multi30k/prepare.sh made
OUT=${OUT:-$WORK/sequence-level}                         # what translate.sh made
VOCABULARY=${VOCABULARY:-teacher}                        # as in prepare.sh
LEVEL=${LEVEL:-sequence}                                 # sequence, or both, with the teacher's vocabulary
UPSAMPLE=${UPSAMPLE:-1}                                  # how often an epoch repeats train, the real pairs
export DATA=${DATA:-$OUT/data-$VOCABULARY}
export SAVE=${SAVE:-$OUT/student-$VOCABULARY-$LEVEL}

case $LEVEL in
    both) ;;                                             # train_student.sh has a teacher, or CACHE
    sequence) export TEACHER= CACHE= ;;
    *) echo "error: LEVEL=$LEVEL is neither sequence nor both" >&2; exit 1 ;;
esac

bash examples/multi30k/train_student.sh \
    --upsample-primary "$UPSAMPLE" \
    --max-epoch 30 \
    "$@"
