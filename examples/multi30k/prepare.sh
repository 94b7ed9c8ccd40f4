#!/usr/bin/env bash
# Multi30k: image features, the teacher's data (all pairs) and the student's (1k).
# Run from the repository's root. Already finished parts are not done again.
set -euo pipefail

ROOT=${MULTI30K_ROOT:?the folder of Multi30k}            # text, image lists
PHOTOS=${PHOTOS:-$ROOT/images}                           # the folder of photographs
SUBSET=${SUBSET:-$ROOT/subsets/train_1k.lines}           # the student's lines, or a number
SOURCE=${SOURCE:-en} TARGET=${TARGET:-de}                    # of en, de, fr and cs
WORK=${WORK:-multi30k}                                   # everything made here
DATA=${DATA:-$WORK/student-data}                         # of it the student's data
IMAGES=${IMAGES:-$WORK/images.h5}                        # the image store, also of another pair
BACKBONE=${BACKBONE:-resnet18}                           # any of torchvision's convolutional ones
WEIGHTS=${WEIGHTS:-imagenet}                             # imagenet (downloaded), none, or a file
VOCAB_SIZE=${VOCAB_SIZE:-2000}                           # subwords, of both languages together
PYTHON=${PYTHON:-python}

if [[ $IMAGES == *:* ]]; then echo "error: IMAGES=$IMAGES: only one store is written here" >&2; exit 1; fi
mkdir -p "$WORK"

$PYTHON preprocess/extract_features.py \
    --images "$PHOTOS" \
    --backbone "$BACKBONE" \
    --weights "$WEIGHTS" \
    --layer grid \
    --output "$IMAGES"

$PYTHON preprocess/prepare_multi30k.py \
    --root "$ROOT" \
    --source "$SOURCE" \
    --target "$TARGET" \
    --vocab-size "$VOCAB_SIZE" \
    --output "$WORK/teacher-data"

# The student must have the teacher's subword model and dictionary: it learns the teacher's
# distribution over these very symbols.
$PYTHON preprocess/prepare_multi30k.py \
    --root "$ROOT" \
    --source "$SOURCE" \
    --target "$TARGET" \
    --subset "$SUBSET" \
    --sentencepiece "$WORK/teacher-data/sentencepiece.model" \
    --source-dictionary "$WORK/teacher-data/dict.$SOURCE.txt" \
    --target-dictionary "$WORK/teacher-data/dict.$TARGET.txt" \
    --output "$DATA"

# Images of other splits may be missing, which is reported and masked in training.
$PYTHON preprocess/check_data.py "$DATA" --image-h5 "$IMAGES" --image-missing mask
