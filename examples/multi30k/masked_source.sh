#!/usr/bin/env bash
# Does the student look when the text does not say it? Mask the colours in the English text, train on
# 5,000 such pairs with their images, and count how many masked words come back with the right image,
# with wrong ones and without (Caglayan et al. 2019). Run from the repository's root, after prepare.sh.
set -euo pipefail

ROOT=${MULTI30K_ROOT:?the folder of Multi30k}
MASK=${MASK:-colours}                                    # colours, people, nouns or several
SUBSET=${SUBSET:-$ROOT/subsets/train_5k.lines}           # the student's lines, or a number
WORK=${WORK:-multi30k}                                   # has images.h5, of prepare.sh
OUT=${OUT:-$WORK/masked}                                 # everything made here
TEST=${TEST:-test_heldout}                               # Multi30k's name of the test set
SEED=${SEED:-1}
CONFIGS=${CONFIGS:-examples/multi30k/configs}
PYTHON=${PYTHON:-python}

$PYTHON preprocess/mask_source.py --root "$ROOT" --source en --target de --mask $MASK --output "$OUT/root"

# The subwords are those of the whole masked text, in which the placeholder is a piece.
$PYTHON preprocess/prepare_multi30k.py \
    --root "$OUT/root" \
    --source en \
    --target de \
    --vocab-size 2000 \
    --output "$OUT/data-full"
$PYTHON preprocess/prepare_multi30k.py \
    --root "$OUT/root" \
    --source en \
    --target de \
    --subset "$SUBSET" \
    --sentencepiece "$OUT/data-full/sentencepiece.model" \
    --source-dictionary "$OUT/data-full/dict.en.txt" \
    --target-dictionary "$OUT/data-full/dict.de.txt" \
    --output "$OUT/data"

split_of() { awk -F '\t' -v name="$1" '$2 == name { print $1 }' "$OUT/data/splits.tsv"; }
test=$(split_of "$TEST")
if [[ -z $test ]]; then echo "error: TEST=$TEST is none of the sets of $OUT/data/splits.tsv" >&2; exit 1; fi

# Image settings are chosen on val_images, of which every line has its image; where there is none, on val.
valid=$(split_of val_images)
fairseq-train "$OUT/data" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    --image-h5 "$WORK/images.h5" \
    $(sed 's/#.*//' "$CONFIGS/masked-source.options") \
    --valid-subset "${valid:-valid}" \
    --seed "$SEED" \
    --save-dir "$OUT/student" \
    --log-format simple \
    --log-interval 100 \
    "$@"

$PYTHON -m caf_dkd_plugin image-awareness "$OUT/data" \
    --path "$OUT/student/checkpoint_best.pt" \
    --gen-subset "$test" \
    --image-h5 "$WORK/images.h5" \
    --masked-words "$OUT/root/text/$TEST.masked.jsonl" \
    --json "$OUT/awareness.json"
