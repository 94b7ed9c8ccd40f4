#!/usr/bin/env bash
# 200 real sentence pairs through every command, teacher and student, to a BLEU line. Checks that
# the commands work together on real text and photographs; the figures mean nothing after so little.
#
#   MULTI30K_ROOT=/data/multi30k bash .ci/multi30k_smoke.sh BIN OUTPUT
#
# BIN has python and the fairseq commands; OUTPUT is a new folder. MULTI30K_WEIGHTS, if set, is the
# file of a pretrained MobileNet-v2; otherwise a ResNet-18 with random weights does.
set -euo pipefail

bin=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$bin:$PATH"

data=$out/data
features=$out/features.h5
pairs=200
test=test3 # every sentence has its picture
held_out=test_heldout # its name in Multi30k

step() { printf '\n[%s +%ds] %s\n' "$(date +%H:%M:%S)" "$SECONDS" "$*"; }

step "binarise $pairs pairs"
head -n "$pairs" "$MULTI30K_ROOT/subsets/train_1k.lines" >"$out/train.lines"
python preprocess/prepare_multi30k.py \
    --root "$MULTI30K_ROOT" \
    --source en \
    --target de \
    --subset "$out/train.lines" \
    --vocab-size 1000 \
    --output "$data"

# Pictures for a part of three splits, less each tenth: the others are missing ones, to be masked.
step "features"
head -q -n 150 "$data/train.images" "$data/valid1.images" "$data/$test.images" |
    awk 'NR % 10' >"$out/pictures"
backbone=(--backbone resnet18 --weights none)
if [[ -n ${MULTI30K_WEIGHTS:-} ]]; then
    backbone=(--backbone mobilenet_v2 --weights "$MULTI30K_WEIGHTS")
fi
python preprocess/extract_features.py \
    --images "$MULTI30K_ROOT/images" \
    --list "$out/pictures" \
    --output "$features" \
    "${backbone[@]}"

step "check"
python preprocess/check_data.py "$data" --image-h5 "$features" --image-missing mask

export OMP_NUM_THREADS=1 # for a model so small, more threads only wait for each other

plugin=(--user-dir caf_dkd_plugin --task multimodal_translation)
with_images=(--image-h5 "$features" --image-missing mask)
training=(
    "$data"
    "${plugin[@]}"
    "${with_images[@]}"
    --source-lang en
    --target-lang de
    --arch cross_modal_rnn_tiny
    --optimizer adam
    --lr 0.003
    --clip-norm 1.0
    --max-tokens 500
    --max-epoch 6
    --save-interval 3
    --validate-interval 3
    --valid-subset valid1
    --ignore-unused-valid-subsets
    --max-tokens-valid 4000
    --num-workers 1
    --no-epoch-checkpoints
    --eval-bleu
    --eval-bleu-args '{"beam": 1, "max_len_a": 1.0, "max_len_b": 5}'
    --eval-bleu-detok space
    --eval-bleu-remove-bpe sentencepiece
    --best-checkpoint-metric bleu
    --maximize-best-checkpoint-metric
    --log-format simple
    --seed 1
)

step "train the teacher"
fairseq-train "${training[@]}" \
    --criterion label_smoothed_cross_entropy \
    --label-smoothing 0.1 \
    --save-dir "$out/teacher"

step "train the student"
fairseq-train "${training[@]}" \
    --criterion kd_label_smoothed_cross_entropy \
    --label-smoothing 0.1 \
    --teacher-path "$out/teacher/checkpoint_best.pt" \
    --kd-lambda 0.5 \
    --kd-temperature 2 \
    --image-dropout 0.2 \
    --save-dir "$out/student"

step "cache the teacher, and learn from that"
python preprocess/cache_teacher.py "$data" "${with_images[@]}" \
    --source-lang en \
    --target-lang de \
    --teacher-path "$out/teacher/checkpoint_best.pt" \
    --output "$out/teacher.h5"

rm "$out/teacher/checkpoint_best.pt" # from here on nobody needs the teacher

fairseq-train "${training[@]}" \
    --criterion kd_label_smoothed_cross_entropy \
    --label-smoothing 0.1 \
    --teacher-cache "$out/teacher.h5" \
    --kd-lambda 0.5 \
    --kd-temperature 2 \
    --max-update 10 \
    --save-dir "$out/cached"

student=(--path "$out/student/checkpoint_best.pt" "${plugin[@]}" "${with_images[@]}")

step "validate"
fairseq-validate "$data" "${student[@]}" --valid-subset valid1 --max-tokens 2000

translating=(
    --beam 5
    --max-len-a 1
    --max-len-b 5
    --bpe sentencepiece
    --sentencepiece-model "$data/sentencepiece.model"
)
translations() { grep ^D- "$1" | sed 's/^D-//' | sort -n | cut -f 3; } # in the order of the input

step "generate"
fairseq-generate "$data" "${student[@]}" "${translating[@]}" \
    --gen-subset "$test" \
    --max-tokens 4000 \
    >"$out/generate.log"
translations "$out/generate.log" >"$out/hypotheses"

step "interactive: the first 20 again, from their text"
head -n 20 "$data/text/$test.en" >"$out/first.en"
head -n 20 "$data/$test.images" >"$out/first.images"
fairseq-interactive "$data" "${student[@]}" "${translating[@]}" \
    --source-lang en \
    --target-lang de \
    --input "$out/first.en" \
    --image-list "$out/first.images" \
    --buffer-size 8 \
    --max-tokens 500 \
    >"$out/interactive.log"
translations "$out/interactive.log" >"$out/interactive"
lines=$(wc -l <"$out/interactive")
if ((lines != 20)); then
    echo "fairseq-interactive gave $lines translations for 20 lines" >&2
    exit 1
fi

# A part for each of two machines; the backbone learns from random weights or the given ones.
step "pixels, in two stores"
for part in 1 2; do
    python preprocess/extract_features.py \
        --images "$MULTI30K_ROOT/images" \
        --list "$out/pictures" \
        --raw \
        --image-size 96 \
        --shard "$part/2" \
        --output "$out/pixels$part.h5"
done
layer=layer4
if [[ -n ${MULTI30K_WEIGHTS:-} ]]; then layer=features.17; fi
for updates in 5 10; do # stopped, and gone on with
    step "fine-tune the backbone from $layer on, to update $updates"
    fairseq-train "${training[@]}" \
        --image-h5 "$out/pixels1.h5:$out/pixels2.h5" \
        --image-backbone "${backbone[1]}" \
        --image-backbone-weights "${backbone[3]}" \
        --image-finetune-from "$layer" \
        --init-from "$out/student/checkpoint_best.pt" \
        --criterion label_smoothed_cross_entropy \
        --label-smoothing 0.1 \
        --max-update "$updates" \
        --save-dir "$out/pixels" \
        >"$out/pixels.log"
    grep -q "num_updates=*: *$updates\b\|num_updates $updates\b" "$out/pixels.log"
done
grep -q "Loaded checkpoint $out/pixels/checkpoint_last.pt" "$out/pixels.log"

step "translate with it"
fairseq-generate "$data" --path "$out/pixels/checkpoint_last.pt" "${plugin[@]}" "${translating[@]}" \
    --image-h5 "$out/pixels1.h5:$out/pixels2.h5" \
    --image-missing mask \
    --gen-subset valid1 \
    --max-tokens 4000 \
    >"$out/pixels.generate.log"
lines=$(translations "$out/pixels.generate.log" | wc -l)
if ((lines != 492)); then
    echo "fairseq-generate gave $lines translations for 492 lines" >&2
    exit 1
fi

step "score"
python -m caf_dkd_plugin evaluate \
    --references "$data/text/$test.de" \
    --target-lang de \
    --system student "$out/generate.log" \
    --system "the same as text" "$out/hypotheses" \
    --json "$out/scores.json"

step "does it look?"
python -m caf_dkd_plugin image-awareness "$data" --path "$out/student/checkpoint_best.pt" \
    --gen-subset valid1 \
    --image-h5 "$features" \
    --derangements 1 \
    --beam 1 \
    --json "$out/awareness.json"
python -m caf_dkd_plugin plot-attention "$data" --path "$out/student/checkpoint_best.pt" \
    --gen-subset valid1 \
    --sentences 1 2 \
    --image-h5 "$features" \
    --images "$MULTI30K_ROOT/images" \
    --output "$out/attention.png"

step "mask the colours"
python preprocess/mask_source.py \
    --root "$MULTI30K_ROOT" \
    --source en \
    --target de \
    --mask colours \
    --output "$out/masked"
grep -q vvv "$out/masked/text/$held_out.en"
grep -q '"source": "red"' "$out/masked/text/$held_out.masked.jsonl"
