#!/usr/bin/env bash
# The teacher translates, with a beam, the student's own sentences, and others whose translations are
# never read. Makes training pairs of them, in $OUT/PART/text:
#   own           the student's sentences with the best-scored hypothesis of each
#   closest       the same with the hypothesis that is closest to the real translation
#   untranslated  the other sentences with the best-scored hypothesis of each
# Run from the repository's root, after examples/multi30k/train_teacher.sh. Further flags go to
# fairseq-interactive.
set -euo pipefail

ROOT=${MULTI30K_ROOT:?the folder of Multi30k}
SUBSET=${SUBSET:-$ROOT/subsets/train_1k.lines}           # the student's lines, as in multi30k/prepare.sh
MORE=${MORE:-$ROOT/subsets/train_5k.lines}               # all lines to translate: a file likewise, or a number
WORK=${WORK:-multi30k}                                   # what multi30k/prepare.sh made
OUT=${OUT:-$WORK/sequence-level}                         # everything made here
TEACHER=${TEACHER:-$WORK/teacher/checkpoint_best.pt}
TEACHER_IMAGES=${TEACHER_IMAGES:-}                       # the image store, for a teacher that looks at images
PYTHON=${PYTHON:-python}

source examples/sequence_level/lines.bash                # numbers, lines

mkdir -p "$OUT/own" "$OUT/untranslated"
numbers "$SUBSET" > "$OUT/own/lines.new"
numbers "$MORE" > "$OUT/all.lines"
grep -vxFf "$OUT/own/lines.new" "$OUT/all.lines" > "$OUT/untranslated/lines.new" || {
    echo "error: MORE=$MORE has no line that is not in SUBSET=$SUBSET" >&2
    exit 1
}
rm -rf "$OUT"/{own,closest,untranslated}/text            # of an earlier run, perhaps with other lines
for part in own untranslated; do mv "$OUT/$part/lines.new" "$OUT/$part/lines"; done
for part in own untranslated; do
    lines "$WORK/teacher-data/text/train.en" "$OUT/$part/lines" > "$OUT/$part/source.en"
    lines "$WORK/teacher-data/train.images" "$OUT/$part/lines" > "$OUT/$part/source.images"
done
lines "$WORK/teacher-data/text/train.de" "$OUT/own/lines" > "$OUT/own/real.de"

for part in own untranslated; do
    looking=()
    if [[ -n $TEACHER_IMAGES ]]; then
        looking=(--image-h5 "$TEACHER_IMAGES" --image-list "$OUT/$part/source.images" --image-missing mask)
    fi
    fairseq-interactive "$WORK/teacher-data" \
        --user-dir caf_dkd_plugin \
        --task multimodal_translation \
        --source-lang en \
        --target-lang de \
        --path "$TEACHER" \
        "${looking[@]}" \
        --input "$OUT/$part/source.en" \
        --bpe sentencepiece \
        --sentencepiece-model "$WORK/teacher-data/sentencepiece.model" \
        --beam 5 \
        --nbest 5 \
        --unkpen 100 \
        --buffer-size 1000 \
        --max-tokens 4000 \
        "$@" \
        > "$OUT/$part/translations" 2> "$OUT/$part/log" || { tail -n 20 "$OUT/$part/log" >&2; exit 1; }
    $PYTHON examples/sequence_level/synthetic_pairs.py \
        --translations "$OUT/$part/translations" \
        --source "$OUT/$part/source.en" \
        --images "$OUT/$part/source.images" \
        --source-lang en \
        --target-lang de \
        --output "$OUT/$part/text/train"
done

$PYTHON examples/sequence_level/synthetic_pairs.py \
    --translations "$OUT/own/translations" \
    --source "$OUT/own/source.en" \
    --images "$OUT/own/source.images" \
    --closest-to "$OUT/own/real.de" \
    --source-lang en \
    --target-lang de \
    --output "$OUT/closest/text/train"
