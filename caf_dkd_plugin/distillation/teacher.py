"""The frozen teacher: loaded from fairseq checkpoints, checked, never trained, never saved.

Letters: B sentences, T target tokens, V target vocabulary.
"""

import math
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import data_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from torch import Tensor

from ..checkpoints.load import CheckpointError, load_checkpoint
from ..data.dictionaries import first_difference, symbols
from ..data.image_format import disagreements, format_of_model
from ..data.joined_stores import Images


class Student(NamedTuple):
    """What a teacher must agree with."""

    source_lang: str
    source_dictionary: Any
    target_dictionary: Any
    max_positions: Tuple[int, int]
    images: Optional[Images]
    """the image store"""


class TeacherError(ValueError):
    """A teacher cannot teach this student; `problems` has one line each."""

    def __init__(self, problems: List[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class FrozenTeacher:
    """One or more models whose probabilities are averaged.

    It is a plain object, not a module, so that no parameter of it can land in an optimiser or in a
    checkpoint.

    Args:
        models: fairseq models with equal target dictionaries.
    """

    def __init__(self, models: Sequence[torch.nn.Module]):
        self._models = [model.eval().requires_grad_(False) for model in models]

    @property
    def reads_images(self) -> bool:
        """Whether one of the models has a cross-modal fusion."""
        return any(map(reads_images, self._models))

    @torch.no_grad()
    def log_probs(self, net_input: Dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The teacher's log-probabilities for each token of the target.

        Args:
            net_input: the student's mini-batch; models without images do not get its images.
            dtype: in which to compute; moved, with the device, when it changes.

        Returns:
            (B, T, V) float32 at temperature 1; log of the mean probability of several models.
        """
        results = []
        for model in self._models:
            model.to(device=net_input["src_tokens"].device, dtype=dtype)
            inputs = net_input if reads_images(model) else without_images(net_input)
            results.append(model.get_normalized_probs(model(**inputs), log_probs=True).float())
        if len(results) == 1:
            return results[0]
        return torch.logsumexp(torch.stack(results), dim=0) - math.log(len(results))


def reads_images(model: torch.nn.Module) -> bool:
    """Whether a model has a cross-modal fusion."""
    return getattr(model.encoder, "fusion", None) is not None


def without_images(net_input: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """`net_input` as a text-only model takes it."""
    return {name: x for name, x in net_input.items() if not name.startswith("image")}


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
    models, problems = [], []
    for path in utils.split_paths(paths):
        try:
            # A model is given random weights before it gets its own.
            with torch.random.fork_rng(devices=[]):
                models.append(_load(path, data, student))
        except TeacherError as error:
            problems += error.problems
    if problems:
        raise TeacherError(problems)
    return FrozenTeacher(models)


def _load(path: str, data: Optional[str], student: Student) -> torch.nn.Module:
    try:
        load_checkpoint(path)  # which says what is wrong with a file that fairseq stumbles over
    except CheckpointError as error:
        raise TeacherError([f"--teacher-path {line}" for line in error.problems]) from error
    overrides: Dict[str, Any] = {"eval_bleu": False}
    if data is not None:
        overrides["data"] = data
    state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
    cfg = state.get("cfg") or convert_namespace_to_omegaconf(state["args"])
    _check_dictionaries_exist(path, cfg.task, data)
    try:
        [model], _, task = checkpoint_utils.load_model_ensemble_and_task(
            [path], overrides, state=state
        )
    except (ValueError, RuntimeError) as error:  # dictionaries of another size, most likely
        raise TeacherError(
            [
                f"the teacher {path} does not fit the dictionaries in {cfg.task.data}; say with "
                f"--teacher-data where its own are: {_one_line(error)}"
            ]
        ) from error
    task_state = state.get("task_state", {})
    problems = _disagreements(path, cfg, task, task_state, model, student)
    if problems:
        raise TeacherError(problems)
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


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
            "dictionaries (fairseq-preprocess --srcdict --tgtdict)."
        )
    if task.cfg.source_lang != student.source_lang:
        found.append(
            f"the teacher {path} translates from {task.cfg.source_lang}, the student from "
            f"{student.source_lang}"
        )
    source = first_difference(symbols(task.source_dictionary), symbols(student.source_dictionary))
    if source:
        found.append(
            f"the teacher {path} has another source dictionary than the student (first: teacher, "
            f"second: student): {source}. It reads the student's source, so they must be the same."
        )
    positions = model.max_positions()
    for side, teacher, needed in zip(("source", "target"), positions, student.max_positions):
        if teacher < needed:
            found.append(
                f"the teacher {path} reads {side} sentences of at most {teacher} tokens, the task "
                f"allows {needed}: give --max-{side}-positions {teacher}"
            )
    trained = format_of_model(cfg.model)
    if trained is not None and student.images is None:
        found.append(f"the teacher {path} reads images: give the image store with --image-h5")
    elif trained is not None:
        description = task_state.get("images")
        found += disagreements(f"the teacher {path}", trained, description, student.images)
    return found
