#!/usr/bin/env bash
# The teacher: all training pairs, text only, or with TEACHER_IMAGES also the images that there are. Its
# settings are in configs/teacher.options. Run from the repository's root.
set -euo pipefail

SOURCE=${SOURCE:-en} TARGET=${TARGET:-de}                    # of en, de, fr and cs
WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/teacher-data}
SAVE=${SAVE:-$WORK/teacher}
SEED=${SEED:-1}
TEACHER_IMAGES=${TEACHER_IMAGES:-}                       # the image store, for a teacher that looks at images
CONFIGS=${CONFIGS:-examples/multi30k/configs}
source examples/multi30k/save_dir.bash                   # fairseq-train goes on from its own command only

settings=("$CONFIGS/teacher.options")
looking=()
if [[ -n $TEACHER_IMAGES ]]; then
    settings+=("$CONFIGS/image.options")
    looking=(--image-h5 "$TEACHER_IMAGES")
fi

fairseq-train "$DATA" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang "$SOURCE" \
    --target-lang "$TARGET" \
    "${looking[@]}" \
    $(sed 's/#.*//' "${settings[@]}") \
    --seed "$SEED" \
    --save-dir "$SAVE" \
    --log-format simple \
    --log-interval 100 \
    "$@"
