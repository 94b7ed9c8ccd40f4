"""The experiment's grid: what is trained on what, and the commands that do it.

Commands are for a shell with the variables MULTI30K_ROOT, IMAGE_H5 and WORK. No path of a machine is
in them, so that they can stand in a committed result, and a work folder can be moved.
"""

import re
import shlex
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional, Sequence

from option_files import value_of

SOURCE, TARGET = "en", "de"
SIZES: Dict[str, Optional[int]] = {"1k": 1000, "5k": 5000, "10k": 10000, "full": None}
"""pairs of a student's training set: ROOT/subsets/train_SIZE.lines, or where there is no such file the
first so many; None: all"""
VOCABULARY = 2000
"""pieces of the sentencepiece model, made from the whole training set and shared by all"""
TEST_SETS = ("test_2016_flickr", "test_heldout")
"""Multi30k's names"""
BEAM = 5
TOP_K = 8
"""symbols of each token that the teacher's cache keeps"""


class Arm(NamedTuple):
    """What a student has besides the text."""

    images: bool
    teacher: bool


ARMS = {
    "text": Arm(images=False, teacher=False),
    "image": Arm(images=True, teacher=False),
    "kd": Arm(images=False, teacher=True),
    "caf-dkd": Arm(images=True, teacher=True),
}
UNDISTILLED = ("text", "image")
"""the arms at the full size, where the teacher knows no more than the student, if none are asked for"""
SEEDS = {"1k": (1, 2, 3), "5k": (1, 2, 3), "10k": (1,), "full": (1,)}
"""if none are asked for"""


@dataclass(frozen=True)
class Step:
    """A command line, and what it needs and makes."""

    name: str
    """for file names"""
    command: str
    outputs: List[str]
    """paths in WORK"""
    needs: List[str] = field(default_factory=list)
    """names of the steps that come before it"""
    facts: Dict[str, str] = field(default_factory=dict)
    """what the outputs depend on besides the command and the steps before: name -> hash"""


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
    def data(self) -> str:
        """In WORK."""
        return f"data/{self.size}"

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


def shell(*words: str) -> str:
    """A command line with a flag a line; words with $VARIABLES are expanded by the shell."""
    quoted = [f'"{word}"' if "$" in word else shlex.quote(word) for word in words]
    return re.sub(r" (?=--\w)", " \\\\\n    ", " ".join(quoted))


def work(path: str) -> str:
    """A path in WORK, for the shell."""
    return f"$WORK/{path}"


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
    facts: Dict[str, str]
    """hashes of what is read: "text", of all splits; "images", of the store; "lines of SIZE" """

    @property
    def models(self) -> List[Model]:
        """All, in the order in which they are trained."""
        return [*self.teachers, *self.students]

    def steps(self) -> List[Step]:
        """All, each after those that it needs."""
        found = [self._whole_text()]
        if self.teachers and self.unseen:
            found += self._rest()
        sizes = dict.fromkeys(student.size for student in self.students)
        found += [self._subset(size, self.subsets[size]) for size in sizes if size != "full"]
        for teacher in self.teachers:
            found += self._of_model(teacher)
        distilled = dict.fromkeys(s.size for s in self.students if ARMS[s.arm].teacher)
        found += [self._cache(size) for size in distilled]
        for student in self.students:
            found += self._of_model(student)
        return found

    def _whole_text(self) -> Step:
        command = self._prepare("full", "--vocab-size", str(self.vocabulary))
        return Step("data.full", command, ["data/full"], facts={"text": self.facts["text"]})

    def _rest(self) -> List[Step]:
        """All lines but those of the size that the teachers do not see."""
        name = f"without-{self.unseen}"
        subset = self.subsets[self.unseen]
        if subset.isdigit():
            command = f'seq {subset} {self.lines - 1} > "$WORK/{name}.lines"'
        else:
            command = (
                f'tr -d \'\\r\' < "{subset}" > "$WORK/{self.unseen}.lines"\n'
                f'seq 0 {self.lines - 1} | grep -vxFf "$WORK/{self.unseen}.lines" \\\n'
                f'    > "$WORK/{name}.lines"'
            )
        lines = Step(f"lines.{name}", command, [f"{name}.lines"], [], self._lines_of(self.unseen))
        return [lines, self._subset(name, work(f"{name}.lines"), lines.name)]

    def _subset(self, size: str, subset: str, *needs: str) -> Step:
        pieces = work("data/full")
        command = self._prepare(
            size,
            *("--subset", subset),
            *("--sentencepiece", f"{pieces}/sentencepiece.model"),
            *("--source-dictionary", f"{pieces}/dict.{SOURCE}.txt"),
            *("--target-dictionary", f"{pieces}/dict.{TARGET}.txt"),
        )
        needed = ["data.full", *needs]
        return Step(f"data.{size}", command, [f"data/{size}"], needed, self._lines_of(size))

    def _lines_of(self, size: str) -> Dict[str, str]:
        name = f"lines of {size}"
        return {name: self.facts[name]} if name in self.facts else {}

    def _prepare(self, size: str, *options: str) -> str:
        return shell(
            *("python", "preprocess/prepare_multi30k.py", "--root", "$MULTI30K_ROOT"),
            *("--source", SOURCE, "--target", TARGET, *options, "--output", work(f"data/{size}")),
        )

    def _cache(self, size: str) -> Step:
        looking = [teacher for teacher in self.teachers if teacher.images]
        command = shell(
            *("python", "preprocess/cache_teacher.py", work(f"data/{size}")),
            *("--source-lang", SOURCE, "--target-lang", TARGET),
            *(self._images(looking[0]) if looking else ()),
            *("--teacher-path", ":".join(work(teacher.checkpoint) for teacher in self.teachers)),
            *("--topk", str(TOP_K), "--output", work(f"caches/{size}.h5")),
        )
        needs = [f"data.{size}", *(teacher.last_training_step for teacher in self.teachers)]
        return Step(f"cache.{size}", command, [f"caches/{size}.h5"], needs)

    def _of_model(self, model: Model) -> List[Step]:
        distilled = not model.is_teacher and ARMS[model.arm].teacher
        train = shell(
            *("fairseq-train", work(model.data), "--user-dir", "caf_dkd_plugin"),
            *("--task", "multimodal_translation"),
            *("--source-lang", SOURCE, "--target-lang", TARGET),
            *(("--image-h5", "$IMAGE_H5") if model.images else ()),
            *(("--teacher-cache", work(f"caches/{model.size}.h5")) if distilled else ()),
            *model.options,
            *("--seed", str(model.seed), "--save-dir", work(model.save_dir)),
            *("--log-format", "json", "--log-interval", "50"),
        )
        needs = [f"data.{model.size}", *([f"cache.{model.size}"] if distilled else [])]
        images = {"images": self.facts["images"]} if model.images else {}
        found = [Step(model.training, train, [model.save_dir], needs, images)]
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
