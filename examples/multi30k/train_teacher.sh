#!/usr/bin/env bash
# The teacher: all training pairs, with the images that there are. Its settings are in
# configs/teacher.options. Run from the repository's root.
set -euo pipefail

WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/teacher-data}
SAVE=${SAVE:-$WORK/teacher}
SEED=${SEED:-1}
CONFIGS=${CONFIGS:-examples/multi30k/configs}

fairseq-train "$DATA" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    --image-h5 "$WORK/images.h5" \
    $(sed 's/#.*//' "$CONFIGS/teacher.options") \
    --seed "$SEED" \
    --save-dir "$SAVE" \
    --log-format simple \
    --log-interval 100 \
    "$@"
