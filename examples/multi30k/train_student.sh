#!/usr/bin/env bash
# The student: few pairs with their images, distilled from the teacher, or from what cache_teacher.sh
# wrote down of it; with TEACHER= (empty) the same student without one. Run from the repository's root.
set -euo pipefail

WORK=${WORK:-multi30k}                                   # what prepare.sh made
DATA=${DATA:-$WORK/student-data}
TEACHER=${TEACHER-$WORK/teacher/checkpoint_best.pt}      # or several, separated by colons
CACHE=${CACHE:-}                                         # instead of the teacher
SAVE=${SAVE:-$WORK/student}
SEED=${SEED:-1}

teacher=(--teacher-path "$TEACHER")
if [[ -z $TEACHER ]]; then teacher=(--kd-lambda 1); fi
if [[ -n $CACHE ]]; then teacher=(--teacher-cache "$CACHE"); fi

fairseq-train "$DATA" \
    --user-dir caf_dkd_plugin \
    --task multimodal_translation \
    --source-lang en \
    --target-lang de \
    --image-h5 "$WORK/images.h5" \
    --image-missing mask \
    --arch cross_modal_rnn \
    --share-all-embeddings \
    --dropout 0.3 \
    --embed-dropout 0.3 \
    --criterion kd_label_smoothed_cross_entropy \
    --kd-lambda 0.1 \
    --kd-temperature 2 \
    --label-smoothing 0.1 \
    "${teacher[@]}" \
    --optimizer adam \
    --adam-betas '(0.9, 0.98)' \
    --lr 1e-3 \
    --lr-scheduler inverse_sqrt \
    --warmup-updates 500 \
    --clip-norm 1.0 \
    --max-tokens 500 \
    --max-epoch 70 \
    --valid-subset valid \
    --ignore-unused-valid-subsets \
    --eval-bleu \
    --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}' \
    --eval-bleu-remove-bpe sentencepiece \
    --best-checkpoint-metric bleu \
    --maximize-best-checkpoint-metric \
    --validate-interval 5 \
    --no-epoch-checkpoints \
    --seed "$SEED" \
    --save-dir "$SAVE" \
    --log-format simple \
    --log-interval 100 \
    "$@"
