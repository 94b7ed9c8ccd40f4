"""The experiment's grid: what is trained on what, and the commands that do it."""

from typing import Dict, List, NamedTuple, Optional, Sequence

from extra_sources import SUBSTITUTED, UNTRANSLATED, ExtraSources
from option_files import value_of
from step_commands import (
    ALL_LINES,
    BEAM,
    SOURCE,
    TARGET,
    Step,
    in_shared_subwords,
    prepare,
    shell,
    work,
)

SIZES: Dict[str, Optional[int]] = {"1k": 1000, "5k": 5000, "10k": 10000, "full": None}
"""pairs of a student's training set: ROOT/subsets/train_SIZE.lines, or where there is no such file the
first so many; None: all"""
VOCABULARY = 2000
"""pieces of the sentencepiece model, made from the whole training set and shared by all"""
TEST_SETS = ("test_2016_flickr", "test_heldout")
"""Multi30k's names"""
TOP_K, TAIL_RANK = 8, 128
"""of each token in a teacher's cache, symbols and numbers; given to the program, so that what a result says
it was made by stays true if a default changes"""
TRANSFORMER = "transformer"
"""a student of that kind, and its arm without a teacher"""


class Arm(NamedTuple):
    """What a student is, and what it has besides the text."""

    images: bool
    teacher: bool
    """whether it is distilled"""
    extra: Optional[str] = None
    """sources besides its own lines, which the teachers translate: a kind of ExtraSources"""
    begins_as: Optional[str] = None
    """the arm from whose student of the same seed its training goes on"""
    options: Optional[str] = None
    """NAME of its option files, which are NAME-SIZE.options in place of its size's"""
    aligned: bool = False
    """whether it learns where the teachers look, which are then live"""
    student: Optional[str] = None
    """its kind, with option files of its own, and the name of its arm with text only; None: the RNN"""

    @property
    def is_taught(self) -> bool:
        """Whether there is anything in it that teachers have said or shown."""
        return self.teacher or self.aligned or self.extra is not None


ARMS = {
    "text": Arm(images=False, teacher=False),
    "image": Arm(images=True, teacher=False, begins_as="text"),
    "kd": Arm(images=False, teacher=True),
    "caf-dkd": Arm(images=True, teacher=True, begins_as="kd"),
    "text-substituted": Arm(images=False, teacher=False, extra=SUBSTITUTED),
    "kd-substituted": Arm(images=False, teacher=True, extra=SUBSTITUTED),
    "text-untranslated": Arm(images=False, teacher=False, extra=UNTRANSLATED),
    "kd-untranslated": Arm(images=False, teacher=True, extra=UNTRANSLATED),
    "lstm": Arm(images=False, teacher=False, options="lstm"),
    "a2d": Arm(images=False, teacher=False, aligned=True),
    "kd-a2d": Arm(images=False, teacher=True, aligned=True),
    "caf-dkd-a2d": Arm(images=True, teacher=True, begins_as="kd-a2d", aligned=True),
    TRANSFORMER: Arm(images=False, teacher=False, student=TRANSFORMER),
    "transformer-kd": Arm(images=False, teacher=True, student=TRANSFORMER),
    "transformer-a2d": Arm(images=False, teacher=False, aligned=True, student=TRANSFORMER),
    "transformer-kd-a2d": Arm(images=False, teacher=True, aligned=True, student=TRANSFORMER),
}
PRIMARY = ("text", "image", "kd", "caf-dkd")
"""the arms that see the same lines; trained if none are asked for"""
UNDISTILLED = ("text", "image")
"""those of them at the full size, where the teacher knows no more than the student"""
SEEDS = {"1k": (1, 2, 3), "5k": (1, 2, 3), "10k": (1,), "full": (1,)}
"""if none are asked for"""


class Model(NamedTuple):
    """A model to train and to score: a student of the grid or a teacher."""

    size: str
    """of the grid, or for a teacher "full" or which lines it has not seen"""
    arm: str
    """of ARMS, or for a teacher the name of its option file"""
    seed: int
    options: List[str]
    """words of its option files"""
    images: bool
    is_teacher: bool = False
    origin: Optional["Model"] = None
    """the trained model that it goes on from"""

    @property
    def name(self) -> str:
        """For files."""
        if not self.is_teacher:
            return f"{self.size}_{self.arm}_seed{self.seed}"
        unseen = "" if self.size == "full" else f"_{self.size}"
        return f"{self.arm}{unseen}_seed{self.seed}"

    @property
    def folder(self) -> str:
        """In WORK."""
        return f"models/{self.name}"

    @property
    def averaged(self) -> Optional[str]:
        """How many of the last epochs' weights are averaged: --keep-last-epochs of its options."""
        return value_of(self.options, "--keep-last-epochs")

    @property
    def checkpoint(self) -> str:
        """What translates, in WORK."""
        return (
            f"{self.folder}/average.pt" if self.averaged else f"{self.save_dir}/checkpoint_best.pt"
        )

    @property
    def save_dir(self) -> str:
        """In WORK."""
        return f"{self.folder}/training"

    @property
    def extra(self) -> Optional[ExtraSources]:
        """What it learns from besides the lines of its size."""
        kind = None if self.is_teacher else ARMS[self.arm].extra
        return ExtraSources(self.size, kind) if kind else None

    @property
    def asks_teachers(self) -> bool:
        """Whether it learns from live teachers."""
        return not self.is_teacher and ARMS[self.arm].aligned

    @property
    def reads_cache(self) -> bool:
        """Whether it learns from the teachers' cache."""
        return not self.is_teacher and ARMS[self.arm].teacher and not self.asks_teachers

    @property
    def training_set(self) -> str:
        """Name of what it learns from."""
        return self.extra.name if self.extra else self.size

    @property
    def data(self) -> str:
        """In WORK."""
        return f"data/{self.training_set}"

    @property
    def training(self) -> str:
        """Name of the step."""
        return f"{self.name}.train"

    @property
    def last_training_step(self) -> str:
        """Name of the step after which its checkpoint is there."""
        return f"{self.name}.average" if self.averaged else self.training

    def translation(self, test_set: str) -> str:
        """Name of the step."""
        return f"{self.name}.{test_set}"

    def translations(self, test_set: str) -> str:
        """What fairseq-generate prints, in WORK."""
        return f"{self.folder}/{test_set}.generate"

    def steps(self, test_sets: Sequence[str]) -> List[str]:
        """Names of its own steps, in their order."""
        average = [self.last_training_step] if self.averaged else []
        return [self.training, *average, *map(self.translation, test_sets)]


def left_out(unseen: Optional[str], students: Sequence[Model]) -> List[str]:
    """The sizes of which all other lines are used: what the teachers learn from, or extra sources.

    Args:
        unseen: the size whose lines the teachers do not see, if any.
        students: of the grid.
    """
    extras = [student.extra for student in students if student.extra]
    sizes = [unseen] if unseen else []
    sizes += [extra.size for extra in extras if extra.kind == UNTRANSLATED]
    return list(dict.fromkeys(sizes))


class Grid(NamedTuple):
    """What is to be done, and what was found out about the data for it."""

    teachers: List[Model]
    students: List[Model]
    subsets: Dict[str, str]
    """size -> --subset of prepare_multi30k.py, for a shell; not of "full" """
    unseen: Optional[str]
    """the size whose lines the teachers do not see, if any"""
    lines: int
    """of the whole training set"""
    test_sets: Dict[str, str]
    """Multi30k's name -> fairseq's"""
    vocabulary: int
    copies: int
    """of each sentence of a size, with other words, for arms with substituted sources"""
    facts: Dict[str, str]
    """hashes of what is read: "text", of all splits; "images", of the store; "lines of SIZE" """

    @property
    def models(self) -> List[Model]:
        """All, in the order in which they are trained."""
        return [*self.teachers, *self.students]

    def steps(self) -> List[Step]:
        """All, each after those that it needs."""
        found = [self._whole_text()]
        sizes = dict.fromkeys(student.size for student in self.students)
        extras = dict.fromkeys(student.extra for student in self.students if student.extra)
        unseen = self.unseen if self.teachers else None
        found += [self._lines_without(size) for size in left_out(unseen, self.students)]
        if unseen:
            found.append(self._rest())
        found += [self._subset(size, self.subsets[size]) for size in sizes if size != "full"]
        for teacher in self.teachers:
            found += self._of_model(teacher)
        checkpoints = [teacher.checkpoint for teacher in self.teachers]
        for extra in extras:
            found += extra.steps(checkpoints, self._taught_by(), self.copies)
        distilled = (s.training_set for s in self.students if s.reads_cache)
        found += [self._cache(training_set) for training_set in dict.fromkeys(distilled)]
        for student in self.students:
            found += self._of_model(student)
        return found

    def _whole_text(self) -> Step:
        vocabulary = ("--vocab-size", str(self.vocabulary))
        command = prepare("$MULTI30K_ROOT", ALL_LINES, *vocabulary)
        return Step("data.full", command, [ALL_LINES], facts={"text": self.facts["text"]})

    def _lines_without(self, size: str) -> Step:
        """The numbers of all lines but those of a size."""
        name = f"without-{size}"
        subset = self.subsets[size]
        if subset.isdigit():
            command = f'seq {subset} {self.lines - 1} > "$WORK/{name}.lines"'
        else:
            command = (
                f'tr -d \'\\r\' < "{subset}" > "$WORK/{size}.lines"\n'
                f'seq 0 {self.lines - 1} | grep -vxFf "$WORK/{size}.lines" \\\n'
                f'    > "$WORK/{name}.lines"'
            )
        return Step(f"lines.{name}", command, [f"{name}.lines"], [], self._lines_of(size))

    def _rest(self) -> Step:
        """What the teachers learn from: all but the lines that they are not to see."""
        name = f"without-{self.unseen}"
        return self._subset(name, work(f"{name}.lines"), f"lines.{name}")

    def _subset(self, size: str, subset: str, *needs: str) -> Step:
        options = ("--subset", subset, *in_shared_subwords())
        command = prepare("$MULTI30K_ROOT", f"data/{size}", *options)
        needed = ["data.full", *needs]
        return Step(f"data.{size}", command, [f"data/{size}"], needed, self._lines_of(size))

    def _lines_of(self, size: str) -> Dict[str, str]:
        name = f"lines of {size}"
        return {name: self.facts[name]} if name in self.facts else {}

    def _taught_by(self) -> List[str]:
        """Names of the steps after which the teachers can be asked."""
        return [teacher.last_training_step for teacher in self.teachers]

    def _cache(self, training_set: str) -> Step:
        looking = [teacher for teacher in self.teachers if teacher.images]
        command = shell(
            *("python", "preprocess/cache_teacher.py", work(f"data/{training_set}")),
            *("--source-lang", SOURCE, "--target-lang", TARGET),
            *(self._images(looking[0]) if looking else ()),
            *self._teacher_path(),
            *("--topk", str(TOP_K), "--tail-rank", str(TAIL_RANK)),
            *("--output", work(f"caches/{training_set}.h5")),
        )
        needs = [f"data.{training_set}", *self._taught_by()]
        return Step(f"cache.{training_set}", command, [f"caches/{training_set}.h5"], needs)

    def _teacher_path(self) -> List[str]:
        """The option that names them."""
        return ["--teacher-path", ":".join(work(teacher.checkpoint) for teacher in self.teachers)]

    def _of_model(self, model: Model) -> List[Step]:
        cache = f"caches/{model.training_set}.h5"
        train = shell(
            *("fairseq-train", work(model.data), "--user-dir", "caf_dkd_plugin"),
            *("--task", "multimodal_translation"),
            *("--source-lang", SOURCE, "--target-lang", TARGET),
            *(("--image-h5", "$IMAGE_H5") if model.images else ()),
            *(("--teacher-cache", work(cache)) if model.reads_cache else ()),
            *(self._teacher_path() if model.asks_teachers else ()),
            *(("--init-from", work(model.origin.checkpoint)) if model.origin else ()),
            *model.options,
            *("--seed", str(model.seed), "--save-dir", work(model.save_dir)),
            *("--log-format", "json", "--log-interval", "50"),
        )
        needs = [f"data.{model.training_set}"]
        needs += [f"cache.{model.training_set}"] if model.reads_cache else []
        needs += self._taught_by() if model.asks_teachers else []
        needs += [model.origin.last_training_step] if model.origin else []
        images = {"images": self.facts["images"]} if model.images else {}
        found = [Step(model.training, train, [model.save_dir], needs, images, goes_on=True)]
        if model.averaged:
            average = shell(
                *("python", "-m", "caf_dkd_plugin", "average", "--inputs", work(model.save_dir)),
                *("--num-epoch-checkpoints", model.averaged, "--output", work(model.checkpoint)),
            )
            found.append(
                Step(model.last_training_step, average, [model.checkpoint], [model.training])
            )
        for name, split in self.test_sets.items():
            translate = shell(
                *("fairseq-generate", work(model.data), "--user-dir", "caf_dkd_plugin"),
                *("--task", "multimodal_translation"),
                *("--source-lang", SOURCE, "--target-lang", TARGET),
                *(self._images(model) if model.images else ()),
                *("--path", work(model.checkpoint), "--gen-subset", split),
                *("--beam", str(BEAM), "--max-tokens", "4000", "--remove-bpe", "sentencepiece"),
            )
            output = model.translations(name)
            command = f'{translate} > "{work(output)}"'
            needs = [model.last_training_step]
            found.append(Step(model.translation(name), command, [output], needs))
        return found

    @staticmethod
    def _images(model: Model) -> List[str]:
        missing = value_of(model.options, "--image-missing")
        return ["--image-h5", "$IMAGE_H5", *(["--image-missing", missing] if missing else [])]
