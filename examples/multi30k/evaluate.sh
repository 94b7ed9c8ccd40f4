#!/usr/bin/env bash
# Translate the test sets with a beam of 5 and score them: detokenised, cased sacreBLEU with its
# signature. Run from the repository's root: evaluate.sh [CHECKPOINT [fairseq-generate's options]]
set -euo pipefail

SOURCE=${SOURCE:-en} TARGET=${TARGET:-de}                    # of en, de, fr and cs
WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/student-data}
IMAGES=${IMAGES-$WORK/images.h5}                         # empty for a model without images, such as the teacher
CHECKPOINT=${1:-$WORK/student/checkpoint_best.pt}
shift || true
OUT=${OUT:-$(dirname "$CHECKPOINT")}
SUBSETS=${SUBSETS:-$(cut -f1 "$DATA/splits.tsv" | grep '^test')} # all test sets; splits.tsv has their names

looking=()
if [[ -n $IMAGES ]]; then looking=(--image-h5 "$IMAGES" --image-missing mask); fi

for subset in $SUBSETS; do
    fairseq-generate "$DATA" \
        --user-dir caf_dkd_plugin \
        --task multimodal_translation \
        --source-lang "$SOURCE" \
        --target-lang "$TARGET" \
        --path "$CHECKPOINT" \
        --gen-subset "$subset" \
        "${looking[@]}" \
        --beam 5 \
        --max-tokens 4000 \
        --remove-bpe sentencepiece \
        "$@" \
        > "$OUT/$subset.generate" 2> "$OUT/$subset.log" || { tail -n 20 "$OUT/$subset.log" >&2; exit 1; }
    grep '^H-' "$OUT/$subset.generate" | sort -V | cut -f3 > "$OUT/$subset.hyp"
    with_image=$(sed -n 's/.*: \([0-9]* of [0-9]* sentences have an image\).*/, \1/p' "$OUT/$subset.log")
    echo "$subset, $CHECKPOINT$with_image"
    sacrebleu "$DATA/text/$subset.$TARGET" --input "$OUT/$subset.hyp" --metrics bleu chrf --width 2 --format text
done
