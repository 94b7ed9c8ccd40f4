"""The frozen teacher: loaded from fairseq checkpoints, checked, never trained, never saved.

Letters: B sentences, T target tokens, V target vocabulary.
"""

import math
import os
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import data_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from torch import Tensor

from ..checkpoints.load import CheckpointError, load_checkpoint
from ..data.dictionaries import first_difference, symbols
from ..data.image_format import disagreements, format_of_model
from ..data.joined_stores import Images
from ..data.multimodal_dataset import without_images
from ..gpu_waits import is_slow_to_look_at
from ..problems import ProblemsError


class Student(NamedTuple):
    """What a teacher must agree with."""

    source_lang: str
    """what the teacher reads: the student's source, or another side of the same sentences"""
    source_dictionary: Any
    """of that language"""
    target_lang: str
    target_dictionary: Any
    max_positions: Tuple[int, int]
    image_h5: Optional[str]
    """what --image-h5 names"""
    images: Optional[Images]
    """the image store; None also where it cannot be opened"""


class TeacherError(ProblemsError):
    """A teacher cannot teach this student; `problems` has one line each."""


class Member(NamedTuple):
    """One model of a teacher, and how it was trained."""

    model: torch.nn.Module
    left_pad_source: bool
    pad: int
    """index of the source's padding symbol"""


class Answer(NamedTuple):
    """What a teacher says of a mini-batch."""

    log_probs: Tensor
    """(B, T, V) float32 at temperature 1; log of the mean probability of several models"""
    maps: Dict[str, Tensor]
    """of each family that was asked for the attention (B, C, X, K), before dropout; C counts the maps of
    all models, those of the first come first"""
    map_masks: Dict[str, Tuple[Tensor, Tensor]]
    """of each family its queries (B, X) and keys (B, K) that are real, bool"""


class FrozenTeacher:
    """One or more models whose probabilities are averaged.

    It is a plain object, not a module, so that no parameter of it can land in an optimiser or in a
    checkpoint.

    Args:
        members: fairseq models with equal dictionaries.
    """

    def __init__(self, members: Sequence[Member]):
        for member in members:
            member.model.eval().requires_grad_(False)
            _leave_the_fast_path(member.model)
        self._members = members

    @property
    def reads_images(self) -> bool:
        """Whether one of the models has a cross-modal fusion."""
        return any(reads_images(member.model) for member in self._members)

    @property
    def max_positions(self) -> Tuple[int, int]:
        """Tokens of the longest source and target sentences that all models can read."""
        source, target = zip(*(member.model.max_positions() for member in self._members))
        return int(min(source)), int(min(target))

    def map_counts(self) -> Optional[Dict[str, int]]:
        """Of each family of attention that all models have the number of maps.

        None if one gives none, or gives them of a source that is padded on the left.
        """
        for model, left_pad_source, _ in self._members:
            if left_pad_source or not hasattr(model, "map_counts"):
                return None
        counts = [member.model.map_counts() for member in self._members]
        shared = [family for family in counts[0] if all(family in each for each in counts)]
        return {family: sum(each[family] for each in counts) for family in shared}

    def picture_regions(self) -> Set[int]:
        """How many regions of a picture the models see that read pixels; empty if none does."""
        regions = {getattr(member.model.encoder, "regions", None) for member in self._members}
        return regions - {None}

    def log_probs(self, net_input: Dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        """:meth:`answer` without maps: the log-probabilities alone."""
        return self.answer(net_input, dtype).log_probs

    @torch.no_grad()
    def answer(
        self, net_input: Dict[str, Tensor], dtype: torch.dtype, families: Collection[str] = ()
    ) -> Answer:
        """What the teacher says of each token of the target.

        Args:
            net_input: what the teacher is asked, with the source padded on the right: see
                :func:`asked`. Models without images do not get its images.
            dtype: in which to compute; moved, with the device, when it changes.
            families: also where it looks, in these of :meth:`map_counts`.
        """
        # Rows as fairseq's collater sorts them, which its RNNs rely on.
        order = net_input["src_lengths"].argsort(descending=True, stable=True)
        in_order = not is_slow_to_look_at(order) and bool((order[1:] > order[:-1]).all())
        if not in_order:
            net_input = {name: x.index_select(0, order) for name, x in net_input.items()}
        need_maps = bool(families)
        answers = [self._ask(member, net_input, dtype, need_maps) for member in self._members]
        log_probs = answers[0].log_probs
        if len(answers) > 1:
            log_probs = torch.logsumexp(torch.stack([each.log_probs for each in answers]), dim=0)
            log_probs = log_probs - math.log(len(answers))
        maps, masks = {}, {}
        for family in families:
            maps[family] = torch.cat([each.maps[family] for each in answers], dim=1)
            masks[family] = answers[0].map_masks[family]
        if in_order:
            return Answer(log_probs, maps, masks)
        back = order.argsort()
        return Answer(
            log_probs.index_select(0, back),
            {family: x.index_select(0, back) for family, x in maps.items()},
            {
                family: tuple(x.index_select(0, back) for x in both)
                for family, both in masks.items()
            },
        )

    def _ask(
        self, member: Member, net_input: Dict[str, Tensor], dtype: torch.dtype, need_maps: bool
    ) -> Answer:
        model, left_pad_source, pad = member
        model.to(device=net_input["src_tokens"].device, dtype=dtype)
        inputs = dict(net_input) if reads_images(model) else without_images(net_input)
        if left_pad_source:
            inputs["src_tokens"] = utils.convert_padding_direction(
                inputs["src_tokens"], pad, right_to_left=True
            )
        output = model(**inputs, need_maps=True) if need_maps else model(**inputs)
        log_probs = model.get_normalized_probs(output, log_probs=True).float()
        if not need_maps:
            return Answer(log_probs, {}, {})
        return Answer(log_probs, output[1]["maps"], output[1]["map_masks"])


def _leave_the_fast_path(model: torch.nn.Module) -> None:
    """fairseq 0.12.2's shortcut through Transformer layers fails with a source padded on the left, or in
    all sentences of a mini-batch (``--required-seq-len-multiple``)."""
    for layer in model.modules():
        if hasattr(layer, "can_use_fastpath"):
            layer.can_use_fastpath = False


def asked(sample: Dict[str, Any]) -> Dict[str, Tensor]:
    """What a teacher is asked about a mini-batch.

    That is the student's ``net_input``; where ``teacher`` has ``src_tokens`` (B, S') and ``src_lengths``
    (B,), the same sentences in another language, these instead of the student's source.
    """
    return {**sample["net_input"], **sample.get("teacher", {})}


def reads_images(model: torch.nn.Module) -> bool:
    """Whether a model has a cross-modal fusion."""
    return getattr(model.encoder, "fusion", None) is not None


def load_teacher(paths: str, data: Optional[str], student: Student) -> FrozenTeacher:
    """Load checkpoints and check that they can teach.

    Each is built with its own task, never through the student's. The random numbers of the training
    stay as they were, so that a seed gives the student the same first weights with any teacher.

    Args:
        paths: checkpoint files, separated by colons.
        data: folder with the teacher's dictionaries; None: the folder that each checkpoint names.
        student: what must agree.

    Raises:
        TeacherError: all problems of all checkpoints.
    """
    members, problems = [], []
    for path in utils.split_paths(paths):
        try:
            # A model is given random weights before it gets its own.
            with torch.random.fork_rng(devices=[]):
                members.append(_load(path, data, student))
        except TeacherError as error:
            problems += error.problems
    if problems:
        raise TeacherError(problems)
    return FrozenTeacher(members)


def _load(path: str, data: Optional[str], student: Student) -> Member:
    try:
        load_checkpoint(path)  # which says what is wrong with a file that fairseq stumbles over
    except CheckpointError as error:
        raise TeacherError([f"--teacher-path {line}" for line in error.problems]) from error
    overrides: Dict[str, Any] = {"eval_bleu": False}
    if data is not None:
        overrides["data"] = data
    state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
    cfg = state.get("cfg") or convert_namespace_to_omegaconf(state["args"])
    if "source_lang" not in cfg.task:
        raise TeacherError(
            [
                f"the teacher {path} was trained for the task {cfg.task._name}, which translates "
                "nothing: a teacher is a translation model"
            ]
        )
    _check_dictionaries_exist(path, cfg.task, data)
    try:
        [model], _, task = checkpoint_utils.load_model_ensemble_and_task(
            [path], overrides, state=state
        )
    except Exception as error:  # of fairseq or of any plugin's model: no list of types is complete
        raise TeacherError(
            [
                f"the teacher {path} cannot be built with the dictionaries in {cfg.task.data}: "
                f"{_one_line(error)}. If its dictionaries are others, say with --teacher-data where they "
                f"are; if its task {cfg.task._name} or architecture {cfg.model._name} comes from a plugin, "
                "it must be loaded too."
            ]
        ) from error
    task_state = state.get("task_state", {})
    problems = _disagreements(path, cfg, task, task_state, model, student)
    if problems:
        raise TeacherError(problems)
    return Member(model, task.cfg.left_pad_source, task.source_dictionary.pad())


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_dictionaries_exist(path: str, task_cfg, data: Optional[str]) -> None:
    folder = utils.split_paths(task_cfg.data)[0]
    source = "given by --teacher-data" if data is not None else "named by its checkpoint"
    remedy = "Say with --teacher-data where the folder is now."
    if not os.path.isdir(folder):
        raise TeacherError(
            [
                f"the dictionaries of the teacher {path} are looked for in {folder} ({source}), "
                f"which is no folder. {remedy}"
            ]
        )
    langs = [task_cfg.source_lang, task_cfg.target_lang]
    if None in langs:  # the training inferred them from the folder, and so does the task
        langs = data_utils.infer_language_pair(folder)
    files = [f"dict.{lang}.txt" for lang in langs]
    missing = [name for name in files if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        raise TeacherError(
            [
                f"the teacher {path} needs {' and '.join(missing)} in {folder} ({source}), which "
                f"has no such file. {remedy}"
            ]
        )


def _disagreements(path, cfg, task, task_state, model, student: Student) -> List[str]:
    found = []
    target = first_difference(symbols(task.target_dictionary), symbols(student.target_dictionary))
    if target:
        found.append(
            f"the teacher {path} has another target dictionary than the student (first: teacher, "
            f"second: student): {target}. Word-level distillation needs the same symbols in the "
            "same order: binarise the student's data with the teacher's subword model and "
            "dictionaries (fairseq-preprocess --srcdict --tgtdict), or distil at the sentence level, "
            "which has no such need (examples/sequence_level)."
        )
    if task.cfg.target_lang != student.target_lang:
        found.append(
            f"the teacher {path} translates into {task.cfg.target_lang}, the student into "
            f"{student.target_lang}"
        )
    if task.cfg.source_lang != student.source_lang:
        found.append(
            f"the teacher {path} translates from {task.cfg.source_lang}, but is to read "
            f"{student.source_lang}: --teacher-source-lang names another side of the same sentences "
            "(without it, it reads the student's source)"
        )
    source = first_difference(symbols(task.source_dictionary), symbols(student.source_dictionary))
    if source:
        found.append(
            f"the teacher {path} has another source dictionary (first: teacher, second: "
            f"{student.source_lang} in the student's folder): {source}. It reads that side, so they "
            "must be the same."
        )
    positions = model.max_positions()
    for side, teacher, needed in zip(("source", "target"), positions, student.max_positions):
        if teacher < needed:
            found.append(
                f"the teacher {path} reads {side} sentences of at most {teacher} tokens, the task "
                f"allows {needed}: give --max-{side}-positions {teacher}"
            )
    trained = format_of_model(cfg.model)
    if trained is not None and student.image_h5 is None:
        found.append(
            f"the teacher {path} reads images: give the image store with --image-h5. A student without "
            "images learns from a cache that preprocess/cache_teacher.py --image-h5 has made."
        )
    elif trained is not None and student.images is not None:
        description = task_state.get("images")
        found += disagreements(f"the teacher {path}", trained, description, student.images)
    return found
