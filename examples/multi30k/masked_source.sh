#!/usr/bin/env bash
# Does the student look when the text does not say it? Mask the colours in the English text, train on
# 5,000 such pairs with their images, and count how many masked words come back with the right image,
# with wrong ones and without, and with a student that has learned without (Caglayan et al. 2019). The student first learns to translate the same
# pairs with their colours and without images: one that has never read a colour does not learn to read
# it off a picture. Run from the repository's root, after prepare.sh. Further flags are for the student
# with images alone; what all have is in CONFIGS.
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
source examples/multi30k/save_dir.bash                   # fairseq-train goes on from its own command only

$PYTHON preprocess/mask_source.py --root "$ROOT" --source en --target de --mask $MASK --output "$OUT/root"

# The subwords are those of the whole text, as it is and masked: colours and the placeholder are pieces.
$PYTHON preprocess/prepare_multi30k.py \
    --root "$ROOT" \
    --source en \
    --target de \
    --vocab-size 2000 \
    --output "$OUT/unmasked-full"
mkdir -p "$OUT/both/text"
for lang in en de; do
    cat "$OUT/unmasked-full/text/train.$lang" "$OUT/root/text/train.$lang" > "$OUT/both/text/train.$lang"
done
$PYTHON preprocess/prepare_multi30k.py \
    --root "$OUT/both" \
    --source en \
    --target de \
    --vocab-size 2000 \
    --output "$OUT/data-both"
for text in unmasked masked; do
    if [[ $text == masked ]]; then root=$OUT/root; else root=$ROOT; fi
    $PYTHON preprocess/prepare_multi30k.py \
        --root "$root" \
        --source en \
        --target de \
        --subset "$SUBSET" \
        --sentencepiece "$OUT/data-both/sentencepiece.model" \
        --source-dictionary "$OUT/data-both/dict.en.txt" \
        --target-dictionary "$OUT/data-both/dict.de.txt" \
        --output "$OUT/$text"
done

split_of() { awk -F '\t' -v name="$1" '$2 == name { print $1 }' "$OUT/masked/splits.tsv"; }
test=$(split_of "$TEST")
if [[ -z $test ]]; then echo "error: TEST=$TEST is none of the sets of $OUT/masked/splits.tsv" >&2; exit 1; fi

# Settings are chosen on val_images, of which every line has its image; where there is none, on val.
valid=$(split_of val_images)
fairseq-train "$OUT/unmasked" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    $(sed 's/#.*//' "$CONFIGS/masked-source.options") \
    --valid-subset "${valid:-valid}" \
    --seed "$SEED" \
    --save-dir "$OUT/unmasked-student$SEED" \
    --log-format simple \
    --log-interval 100

fairseq-train "$OUT/masked" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    --image-h5 "$WORK/images.h5" \
    --init-from "$OUT/unmasked-student$SEED/checkpoint_best.pt" \
    $(sed 's/#.*//' "$CONFIGS/masked-source.options" "$CONFIGS/masked-source-going-on.options" "$CONFIGS/masked-source-images.options") \
    --valid-subset "${valid:-valid}" \
    --seed "$SEED" \
    --save-dir "$OUT/student$SEED" \
    --log-format simple \
    --log-interval 100 \
    "$@"

# What it is compared with: the same, but for the images. (It is no fair comparison to hide them from the
# student above, which has not learned to do without.)
fairseq-train "$OUT/masked" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    --init-from "$OUT/unmasked-student$SEED/checkpoint_best.pt" \
    $(sed 's/#.*//' "$CONFIGS/masked-source.options" "$CONFIGS/masked-source-going-on.options") \
    --valid-subset "${valid:-valid}" \
    --seed "$SEED" \
    --save-dir "$OUT/text-only-student$SEED" \
    --log-format simple \
    --log-interval 100

$PYTHON -m caf_dkd_plugin image-awareness "$OUT/masked" \
    --path "$OUT/student$SEED/checkpoint_best.pt" \
    --gen-subset "$test" \
    --image-h5 "$WORK/images.h5" \
    --baseline "$OUT/text-only-student$SEED/checkpoint_best.pt" \
    --masked-words "$OUT/root/text/$TEST.masked.jsonl" \
    --json "$OUT/awareness$SEED.json"
