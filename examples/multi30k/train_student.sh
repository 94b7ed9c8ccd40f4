#!/usr/bin/env bash
# The student: few pairs with their images, distilled from the teacher, or from what cache_teacher.sh
# wrote down of it; with TEACHER= (empty) the same student without one. The settings are those of its
# size, in configs/. Where each line has an image of its own, a student learns the images by heart:
# train it with IMAGES= (empty) first, and go on from that one, in another SAVE, with
# INIT=.../checkpoint_best.pt. Run from the repository's root.
set -euo pipefail

SOURCE=${SOURCE:-en} TARGET=${TARGET:-de}                    # of en, de, fr and cs
WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/student-data}
TEACHER=${TEACHER-$WORK/teacher/checkpoint_best.pt}      # or several, separated by colons
CACHE=${CACHE:-}                                         # instead of the teacher
IMAGES=${IMAGES-$WORK/images.h5}
INIT=${INIT:-}                                           # a trained student without images
SAVE=${SAVE:-$WORK/student}
SEED=${SEED:-1}
SIZE=${SIZE:-1k}                                         # 1k, 5k, 10k or full: whose settings
CONFIGS=${CONFIGS:-examples/multi30k/configs}
source examples/multi30k/save_dir.bash                   # fairseq-train goes on from its own command only

settings=$CONFIGS/$SIZE.options
inputs=()
more=()
if [[ -n $IMAGES ]]; then
    inputs+=(--image-h5 "$IMAGES")
    more+=("$CONFIGS/image.options")
fi
if [[ -n $INIT ]]; then
    inputs+=(--init-from "$INIT")
    more+=("$CONFIGS/going-on.options")
fi
validation=()
if [[ -n $INIT && ! -f $DATA/valid1.images ]]; then validation=(--valid-subset valid); fi
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
    --source-lang "$SOURCE" \
    --target-lang "$TARGET" \
    "${inputs[@]}" \
    $(sed 's/#.*//' "$settings" "${more[@]}") \
    "${validation[@]}" \
    --seed "$SEED" \
    --save-dir "$SAVE" \
    --log-format simple \
    --log-interval 100 \
    "$@"
