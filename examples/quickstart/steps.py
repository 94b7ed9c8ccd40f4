"""The steps of the demo: commands that a user could type, and what they make.

Those of :func:`steps` are the method with features; pixel_steps.py has the ones for pixels and
aligned_attention.py those that compare attention, and they share what they need.
"""

from typing import List, NamedTuple

HERE = "examples/quickstart"


class Size(NamedTuple):
    """How big the demo is."""

    train: int
    """sentence pairs of the teacher"""
    student: int
    """of them, the first ones are the student's"""
    test: int
    """sentences to translate"""
    cnn_steps: int
    """batches that the CNN learns from"""
    teacher_updates: int
    student_updates: int


FULL = Size(2400, student=1000, test=400, cnn_steps=140, teacher_updates=1000, student_updates=1200)
SMOKE = Size(240, student=120, test=48, cnn_steps=4, teacher_updates=8, student_updates=8)


class Step(NamedTuple):
    """A command line and the files or folders that it makes."""

    title: str
    command: str
    outputs: List[str]

    @property
    def name(self) -> str:
        """For file names."""
        return self.title.split(":")[0].replace(" ", "_")


RNN = "cross_modal_rnn_tiny --embed-dropout 0.1"
"""the demo's architecture, with an option that only this one has"""

TRAINING = """\
    --user-dir caf_dkd_plugin --task multimodal_translation --source-lang en --target-lang de \\
    --arch {model} --share-all-embeddings --dropout 0.1 \\
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1 --label-smoothing 0.1 \\
    --lr-scheduler polynomial_decay --lr {rate} --warmup-updates {warmup} \\
    --total-num-update {updates} --max-update {updates} \\
    --no-epoch-checkpoints --num-workers 0 --log-format simple --seed {seed}"""


def training(updates: int, seed: int, rate: str = "3e-3", model: str = RNN) -> str:
    """What all trainings have in common; `rate` is the peak learning rate."""
    warmup = min(200, updates // 2)
    return TRAINING.format(model=model, rate=rate, updates=updates, warmup=warmup, seed=seed)


def looking(demo: str) -> str:
    """What a training with images adds to its options."""
    return f" \\\n    --image-h5 {demo}/images.h5 --fusion-normalize-image"


def corpus(demo: str, train: int, test: int, seed: int) -> Step:
    """Make the corpus, with as many pairs to train on and sentences to translate."""
    return Step(
        "corpus: sentences with ambiguous nouns, and pictures",
        f"python {HERE}/make_corpus.py --output {demo}/corpus \\\n"
        f"    --train {train} --valid 200 --test {test} --seed {seed}",
        [f"{demo}/corpus"],
    )


def translation(demo: str, data: str, test: int, arm: str, model: str, options: str) -> Step:
    """Translate the test set with DEMO/models/MODEL, into DEMO/translations/ARM.txt."""
    return Step(
        f"translation {arm}: beam search over the {test} test sentences",
        f"mkdir -p {demo}/translations\n"
        f"fairseq-generate {data} --user-dir caf_dkd_plugin --task multimodal_translation \\\n"
        f"    --source-lang en --target-lang de {options} \\\n"
        f"    --path {demo}/models/{model}/checkpoint_best.pt \\\n"
        f"    --beam 5 --batch-size 100 --max-len-b 40 --remove-bpe sentencepiece \\\n"
        f"    > {demo}/translations/{arm}.txt",
        [f"{demo}/translations/{arm}.txt"],
    )


def preparation(demo: str, size: Size, seed: int) -> List[Step]:
    """Data and features, for teacher and student; `demo` is the folder, for the shell."""
    text, store = f"{demo}/corpus/text", f"{demo}/images.h5"
    many, few = f"{demo}/data/teacher", f"{demo}/data/student"
    return [
        corpus(demo, size.train, size.test, seed),
        Step(
            "subwords: sentencepiece, learned from the training text",
            f"python {HERE}/subwords.py --text {text} --output {demo}/pieces \\\n"
            f"    --vocab-size 500 --student {size.student}",
            [f"{demo}/pieces"],
        ),
        Step(
            "data of the teacher: all pairs, one dictionary for both languages",
            f"fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \\\n"
            f"    --trainpref {demo}/pieces/train --validpref {demo}/pieces/valid \\\n"
            f"    --destdir {many}\n"
            f"cp {text}/train.images {text}/valid.images {many}",
            [many],
        ),
        Step(
            f"data of the student: {size.student} pairs, the teacher's dictionary, two test sets",
            f"fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \\\n"
            f"    --srcdict {many}/dict.en.txt \\\n"
            f"    --trainpref {demo}/pieces/student --validpref {demo}/pieces/valid \\\n"
            f"    --testpref {demo}/pieces/test,{demo}/pieces/test --destdir {few}\n"
            f"head -n {size.student} {text}/train.images > {few}/train.images\n"
            f"cp {text}/valid.images {text}/test.images {few}\n"
            f"python {HERE}/wrong_images.py --text {text} --output {few}/test1.images",
            [few],
        ),
        Step(
            "cnn: pretraining on other drawings, as ImageNet is for photographs",
            f"python {HERE}/pretrain_cnn.py --output {demo}/cnn.pt \\\n"
            f"    --steps {size.cnn_steps} --seed {seed}",
            [f"{demo}/cnn.pt"],
        ),
        Step(
            "features: 4 x 4 regions of 512 numbers for every picture",
            f"python preprocess/extract_features.py --images {demo}/corpus/images \\\n"
            f"    --output {store} --backbone resnet18 --weights {demo}/cnn.pt \\\n"
            f"    --layer grid --image-size 128 --overwrite",
            [store],
        ),
        Step(
            "check: do texts, lists of images and features fit together?",
            f"python preprocess/check_data.py {many} --image-h5 {store}\n"
            f"python preprocess/check_data.py {few} --image-h5 {store}",
            [],
        ),
    ]


def distillation(demo: str, size: Size, arm: str, teacher: str, options: str, seed: int) -> Step:
    """Train DEMO/models/student_ARM with the help of DEMO/models/TEACHER."""
    return Step(
        f"student {arm}: {size.student} pairs and the teacher",
        f"fairseq-train {demo}/data/student --save-dir {demo}/models/student_{arm} \\\n"
        f"{training(size.student_updates, seed)} --batch-size 16 \\\n"
        f"    --criterion kd_label_smoothed_cross_entropy --kd-lambda 0.3 --kd-temperature 2 \\\n"
        f"    --teacher-path {demo}/models/{teacher}/checkpoint_best.pt{options}",
        [f"{demo}/models/student_{arm}"],
    )


def steps(demo: str, size: Size, seed: int) -> List[List[Step]]:
    """All steps, in groups that can run at the same time; `demo` is the folder, for the shell."""
    text, store = f"{demo}/corpus/text", f"{demo}/images.h5"
    many, few = f"{demo}/data/teacher", f"{demo}/data/student"
    arms = {"text_only": "", "image": looking(demo)}
    teachers = [
        Step(
            f"teacher {arm}: {size.train} pairs",
            f"fairseq-train {many} --save-dir {demo}/models/teacher_{arm} \\\n"
            f"{training(size.teacher_updates, seed)} --batch-size 32 \\\n"
            f"    --criterion label_smoothed_cross_entropy{looks}",
            [f"{demo}/models/teacher_{arm}"],
        )
        for arm, looks in arms.items()
    ]
    students = [
        distillation(demo, size, arm, f"teacher_{arm}", looks, seed) for arm, looks in arms.items()
    ]
    translations = [
        translation(demo, few, size.test, arm, f"student_{student}", options)
        for arm, student, options in (
            ("text_only", "text_only", "--gen-subset test"),
            ("image", "image", f"--gen-subset test --image-h5 {store}"),
            ("wrong_image", "image", f"--gen-subset test1 --image-h5 {store}"),
        )
    ]
    report = Step(
        "report: sacreBLEU, right senses, attention",
        f"python {HERE}/report.py --text {text} --translations {demo}/translations \\\n"
        f"    --output {demo} --checkpoint {demo}/models/student_image/checkpoint_best.pt \\\n"
        f"    --data {few} --images {demo}/corpus/images --image-h5 {store}",
        [f"{demo}/report.json", f"{demo}/attention.png"],
    )
    return [
        *([step] for step in preparation(demo, size, seed)),
        teachers,
        students,
        translations,
        [report],
    ]
