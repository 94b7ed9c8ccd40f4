#!/usr/bin/env bash
# Binarise the real pairs and those of translate.sh as train, train1 ... of one folder, in the teacher's
# subwords or in the student's own. Run from the repository's root. Already finished parts are not done
# again; with --overwrite those that were made from something else are replaced.
set -euo pipefail

ROOT=${MULTI30K_ROOT:?the folder of Multi30k}
SUBSET=${SUBSET:-$ROOT/subsets/train_1k.lines}           # the student's lines, as in multi30k/prepare.sh
WORK=${WORK:-multi30k}                                   # what multi30k/prepare.sh made
OUT=${OUT:-$WORK/sequence-level}                         # what translate.sh made
PARTS=${PARTS:-real own untranslated}                    # train, train1, train2 ...: any of these and closest
VOCABULARY=${VOCABULARY:-teacher}                        # teacher, as word-level distillation needs, or own
DATA=${DATA:-$OUT/data-$VOCABULARY}
PYTHON=${PYTHON:-python}

source examples/sequence_level/lines.bash                # numbers, lines

if [[ $VOCABULARY != teacher && $VOCABULARY != own ]]; then
    echo "error: VOCABULARY=$VOCABULARY is neither teacher nor own" >&2
    exit 1
fi
mkdir -p "$DATA.parts"
numbers "$SUBSET" > "$DATA.parts/real.lines"
if [[ $PARTS != real ]] && ! cmp -s "$DATA.parts/real.lines" "$OUT/own/lines"; then
    echo "error: SUBSET=$SUBSET is not what translate.sh had, whose lines are in $OUT/own/lines" >&2
    exit 1
fi
text_of() {
    if [[ $1 == real ]]; then
        lines "$WORK/teacher-data/text/train.$2" "$DATA.parts/real.lines"
    else
        cat "$OUT/$1/text/train.$2"
    fi
}

pieces=$WORK/teacher-data
if [[ $VOCABULARY == own ]]; then
    pieces=$DATA.parts/vocabulary
    mkdir -p "$DATA.parts/all/text"
    for lang in en de; do
        for part in $PARTS; do text_of "$part" "$lang"; done > "$DATA.parts/all/text/train.$lang"
    done
    $PYTHON preprocess/prepare_multi30k.py \
        --root "$DATA.parts/all" \
        --source en \
        --target de \
        --output "$pieces" \
        "$@"
fi
subwords=(
    --source en
    --target de
    --sentencepiece "$pieces/sentencepiece.model"
    --source-dictionary "$pieces/dict.en.txt"
    --target-dictionary "$pieces/dict.de.txt"
)

$PYTHON preprocess/prepare_multi30k.py \
    --root "$ROOT" \
    --subset "$SUBSET" \
    "${subwords[@]}" \
    --output "$DATA.parts/real" \
    "$@"
mkdir -p "$DATA"
cp -r "$DATA.parts/real/." "$DATA"
rm "$DATA/settings.json" "$DATA"/train*                  # it is more than was prepared from these settings

number=
for part in $PARTS; do
    if [[ $part != real ]]; then
        $PYTHON preprocess/prepare_multi30k.py \
            --root "$OUT/$part" \
            "${subwords[@]}" \
            --output "$DATA.parts/$part" \
            "$@"
    fi
    for file in "$DATA.parts/$part"/train.*; do cp "$file" "$DATA/train$number.${file##*/train.}"; done
    number=$((number + 1))
done

$PYTHON preprocess/check_data.py "$DATA" --image-h5 "$WORK/images.h5" --image-missing mask
