"""The steps of ``run.py --pixels``: a CNN that has only the translations to learn from.

The CNN starts from random weights, inside the translator; nothing but the German sentences ever tells
it what is in a picture, one bit a sentence. There is no teacher and no pretraining. A model without
pictures learns the text first; the one with pictures starts from it (--init-from), so that what is left
to learn is what only the pictures show, and without dropout and label smoothing, whose noise would
drown that one bit. The CNN's learning rate is low: its BatchNorm keeps the statistics of the random
weights, and at 1e-4 it forgets more than it learns.
"""

from typing import List, NamedTuple

from steps import HERE, Step, corpus, training, translation


class PixelSize(NamedTuple):
    """How big the demo with pixels is."""

    train: int
    """sentence pairs, each with one bit for the CNN to learn from"""
    test: int
    """sentences to translate"""
    text_updates: int
    pixel_updates: int


PIXEL_FULL = PixelSize(24000, test=400, text_updates=700, pixel_updates=3000)
PIXEL_SMOKE = PixelSize(240, test=48, text_updates=8, pixel_updates=8)


def pixel_steps(demo: str, size: PixelSize, seed: int) -> List[List[Step]]:
    """All steps, in groups that can run at the same time; `demo` is the folder, for the shell."""
    text, data, store = f"{demo}/corpus/text", f"{demo}/data", f"{demo}/pixels.h5"
    preparation = [
        corpus(demo, size.train, size.test, seed),
        Step(
            "subwords: sentencepiece, learned from the training text",
            f"python {HERE}/subwords.py --text {text} --output {demo}/pieces --vocab-size 500",
            [f"{demo}/pieces"],
        ),
        Step(
            "data: one dictionary for both languages, two test sets",
            f"fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \\\n"
            f"    --trainpref {demo}/pieces/train --validpref {demo}/pieces/valid \\\n"
            f"    --testpref {demo}/pieces/test,{demo}/pieces/test --destdir {data}\n"
            f"cp {text}/train.images {text}/valid.images {text}/test.images {data}\n"
            f"python {HERE}/wrong_images.py --text {text} --output {data}/test1.images",
            [data],
        ),
        Step(
            "pixels: every picture as it is, only smaller",
            f"python preprocess/extract_features.py --images {demo}/corpus/images \\\n"
            f"    --output {store} --raw --image-size 64 --overwrite",
            [store],
        ),
        Step(
            "check: do texts, lists of images and pixels fit together?",
            f"python preprocess/check_data.py {data} --image-h5 {store}",
            [],
        ),
    ]
    text_only = Step(
        f"model text only: {size.train} pairs",
        f"fairseq-train {data} --save-dir {demo}/models/text_only \\\n"
        f"{training(size.text_updates, seed)} --batch-size 32 \\\n"
        f"    --criterion label_smoothed_cross_entropy",
        [f"{demo}/models/text_only"],
    )
    pixels = Step(
        "model pixels: the same pairs, their pictures, and a CNN of random weights",
        f"fairseq-train {data} --save-dir {demo}/models/pixels \\\n"
        f"{training(size.pixel_updates, seed, rate='5e-4')} --batch-size 32 \\\n"
        f"    --dropout 0 --embed-dropout 0 --fusion-dropout 0 --label-smoothing 0 \\\n"
        f"    --criterion label_smoothed_cross_entropy --validate-interval-updates 250 \\\n"
        f"    --init-from {demo}/models/text_only/checkpoint_best.pt --fusion-residual \\\n"
        f"    --image-h5 {store} --fusion-normalize-image \\\n"
        f"    --image-backbone resnet18 --image-backbone-weights none \\\n"
        f"    --image-finetune-from all --image-lr-factor 0.04",
        [f"{demo}/models/pixels"],
    )
    translations = [
        translation(demo, data, size.test, arm, model, options)
        for arm, model, options in (
            ("text_only", "text_only", "--gen-subset test"),
            ("pixels", "pixels", f"--gen-subset test --image-h5 {store}"),
            ("wrong_image", "pixels", f"--gen-subset test1 --image-h5 {store}"),
        )
    ]
    report = Step(
        "report: sacreBLEU, right senses, attention",
        f"python {HERE}/report.py --text {text} --translations {demo}/translations \\\n"
        f"    --arms text_only pixels wrong_image \\\n"
        f"    --output {demo} --checkpoint {demo}/models/pixels/checkpoint_best.pt \\\n"
        f"    --data {data} --images {demo}/corpus/images --image-h5 {store}",
        [f"{demo}/report.json", f"{demo}/attention.png"],
    )
    return [*([step] for step in preparation), [text_only], [pixels], translations, [report]]
