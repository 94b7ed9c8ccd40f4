"""The teacher of a training: asked at every step, or written down in a cache.

Letters: B sentences, T target tokens, V target vocabulary.
"""

import math
from typing import Any, Collection, Dict, List, Optional

import torch
from fairseq.data import FairseqDataset
from fairseq.tasks.translation import TranslationTask

from ...data.joined_stores import Images
from ...data.split_files import SplitFiles
from ...data.taught_dataset import TaughtDataset, lines_of_cache
from ...data.teacher_cache import TeacherCache, TeacherCacheError
from ...data.teacher_source import TeacherSourceDataset, read_side
from ...distillation.tail_shape import TailShape
from ...distillation.teacher import FrozenTeacher, Student, TeacherError, asked, load_teacher
from .checks import cache_problems, side_dictionary, teacher_source_problems


class Teaching:
    """What a training learns from, which may be nobody.

    Args:
        task: whose options name the teacher.
    """

    def __init__(self, task: TranslationTask):
        self.teacher: Optional[FrozenTeacher] = None
        """that is asked"""
        self.cache: Optional[TeacherCache] = None
        """of one that was"""
        self._shape: Optional[TailShape] = None
        self._task = task

    @property
    def option(self) -> Optional[str]:
        """By which option there is a teacher, if there is one."""
        if self.teacher is not None:
            return "--teacher-path"
        return "--teacher-cache" if self.cache is not None else None

    def begin(self, store: Optional[Images]) -> List[str]:
        """Load the teacher or open its cache; one line for each reason why it cannot teach.

        Args:
            store: the student's images, if it has any.
        """
        cfg, problems = self._task.cfg, []
        if cfg.teacher_cache is not None:
            try:
                self.cache = TeacherCache(cfg.teacher_cache)
                problems += cache_problems(self._task, self.cache, store)
            except TeacherCacheError as error:
                problems.append(str(error))
        if cfg.teacher_path is not None:
            try:
                student = self.as_student(store)
                self.teacher = load_teacher(cfg.teacher_path, cfg.teacher_data, student)
            except TeacherError as error:
                problems += error.problems
            except ValueError as error:
                problems.append(str(error))
        if self.teacher is not None and cfg.teacher_source_lang is not None:
            problems += teacher_source_problems(self._task, self.teacher.max_positions[0])
        return problems

    def as_student(self, store: Optional[Images]) -> Student:
        """What the teacher must agree with.

        Raises:
            ValueError: the side that it reads has no dictionary.
        """
        task, cfg = self._task, self._task.cfg
        source, target = task.max_positions()
        related = cfg.teacher_source_lang is not None
        lang = cfg.teacher_source_lang if related else cfg.source_lang
        return Student(
            source_lang=lang,
            source_dictionary=side_dictionary(task, lang),
            target_lang=cfg.target_lang,
            target_dictionary=task.target_dictionary,
            # The limit is for the student's source; what a teacher reads instead is measured.
            max_positions=(0 if related else source, target),
            image_h5=cfg.image_h5,
            images=store,
        )

    def with_teacher(
        self, pairs: FairseqDataset, files: SplitFiles, split: str, has_images: bool
    ) -> FairseqDataset:
        """Training pairs with what a teacher reads or has said.

        Raises:
            ValueError: that is missing or belongs to other sentences.
        """
        if self.teacher is not None:
            return self.with_teacher_source(pairs, files, split)
        if self.cache is not None:
            lines = lines_of_cache(self.cache, files, split, has_images)
            return TaughtDataset(pairs, self.cache, lines)
        return pairs

    def with_teacher_source(
        self, pairs: FairseqDataset, files: SplitFiles, split: str
    ) -> FairseqDataset:
        """Add the side that a teacher reads, where it is not the student's source.

        Raises:
            ValueError: the side is missing or has another number of sentences.
        """
        lang = self._task.cfg.teacher_source_lang
        if lang is None:
            return pairs
        padding = self._task.source_dictionary.pad()
        return TeacherSourceDataset(pairs, read_side(files, split, lang), padding)

    def said_of(
        self,
        sample: Dict[str, Any],
        dtype: torch.dtype,
        families: Collection[str],
        ignored: bool,
    ) -> Dict[str, Any]:
        """What the teacher says of a mini-batch, as the criterion reads it.

        That of a live one has its log-probabilities (B, T, V) at temperature 1 and, where attention is
        aligned, ``maps`` and ``map_masks``; what a cache knows is in the sample already, but for
        ``tail_shape``, which is the same for all.

        Where one of several processes has no mini-batch left, fairseq takes any other, also one of
        validation, of which no cache knows anything, and ignores what comes of it (`ignored`; not when it
        looks for the layer from which NaN comes). The teacher is not asked then.

        Args:
            sample: of the training.
            dtype: in which a live teacher computes.
            families: of attention that is aligned.
            ignored: whether nothing is learnt from the sample.
        """
        asks_more = self.cache is not None or self._task.cfg.teacher_source_lang is not None
        if ignored or (asks_more and "teacher" not in sample):
            return self._nothing(sample["target"])
        if self.teacher is not None:
            return self.teacher.answer(asked(sample), dtype, families)._asdict()
        return {**sample["teacher"], "tail_shape": self._tail_shape(sample["target"].device)}

    def _nothing(self, target: torch.Tensor) -> Dict[str, Any]:
        """All symbols as probable as each other, for the criterion to go through the same steps."""
        shape = (*target.shape, len(self._task.target_dictionary))  # (B, T, V)
        log_probs = torch.full(shape, -math.log(shape[-1]), device=target.device)
        return {"log_probs": log_probs, "maps": {}, "map_masks": {}}

    def _tail_shape(self, device: torch.device) -> TailShape:
        """Of the teacher's cache; it is moved once."""
        if self._shape is None or self._shape.mean.device != device:
            arrays = (self.cache.tail_mean, self.cache.tail_directions)
            self._shape = TailShape(*(torch.from_numpy(array).to(device) for array in arrays))
        return self._shape
