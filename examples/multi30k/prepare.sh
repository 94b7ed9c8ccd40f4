#!/usr/bin/env bash
# Multi30k, English to German: image features, the teacher's data (all pairs) and the student's (1k).
# Run from the repository's root. Already finished parts are not done again.
set -euo pipefail

ROOT=${MULTI30K_ROOT:?the folder of Multi30k}            # text, image lists
PHOTOS=${PHOTOS:-$ROOT/images}                           # the folder of photographs
SUBSET=${SUBSET:-$ROOT/subsets/train_1k.lines}           # the student's lines, or a number
WORK=${WORK:-multi30k}                                   # everything made here
DATA=${DATA:-$WORK/student-data}                         # of it the student's data
BACKBONE=${BACKBONE:-resnet18}                           # any of torchvision's classifiers
WEIGHTS=${WEIGHTS:-imagenet}                             # imagenet (downloaded), none, or a file
VOCAB_SIZE=${VOCAB_SIZE:-2000}                           # subwords, of both languages together
PYTHON=${PYTHON:-python}

mkdir -p "$WORK"

$PYTHON preprocess/extract_features.py \
    --images "$PHOTOS" \
    --backbone "$BACKBONE" \
    --weights "$WEIGHTS" \
    --layer grid \
    --output "$WORK/images.h5"

$PYTHON preprocess/prepare_multi30k.py \
    --root "$ROOT" \
    --source en \
    --target de \
    --vocab-size "$VOCAB_SIZE" \
    --output "$WORK/teacher-data"

# The student must have the teacher's subword model and dictionary: it learns the teacher's
# distribution over these very symbols.
$PYTHON preprocess/prepare_multi30k.py \
    --root "$ROOT" \
    --source en \
    --target de \
    --subset "$SUBSET" \
    --sentencepiece "$WORK/teacher-data/sentencepiece.model" \
    --source-dictionary "$WORK/teacher-data/dict.en.txt" \
    --target-dictionary "$WORK/teacher-data/dict.de.txt" \
    --output "$DATA"

# Images of other splits may be missing, which is reported and masked in training.
$PYTHON preprocess/check_data.py "$DATA" --image-h5 "$WORK/images.h5" --image-missing mask
