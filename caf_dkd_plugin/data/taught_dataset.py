"""Sentence pairs with what a teacher's cache says of them.

Letters: B sentences, T target tokens, k symbols kept of each token, M temperatures, r rank of
the tail's shape.
"""

import hashlib
from typing import List, Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset

from .complete_dataset import CompleteDataset
from .split_files import SplitFiles, find_parts
from .split_images import read_part_ids
from .teacher_cache import TeacherCache, TeacherCacheError, Text
from .teacher_source import read_part_sides


class TaughtDataset(CompleteDataset):
    """A data set whose mini-batches also hold what the teacher says.

    Args:
        pairs: the sentence pairs, with or without images.
        cache: the teacher's cache.
        lines: (N,) the line of the cache of each sentence.

    Raises:
        ValueError: as many lines as sentences are needed.
    """

    def __init__(self, pairs: FairseqDataset, cache: TeacherCache, lines: Sequence[int]):
        super().__init__(pairs)
        if len(lines) != len(pairs):
            raise ValueError(f"{len(lines)} lines of a cache for {len(pairs)} sentences")
        self.cache = cache
        self.lines = np.asarray(lines, dtype=np.int64)

    def collater(self, samples, pad_to_length=None):
        """Merge samples into a mini-batch.

        Returns:
            what the pairs make of it and, rows in the order of ``target``, ``teacher`` with
            ``topk_ids`` (B, T, k) int64, ``topk_log_probs`` (B, T, k), ``tail_log_mass`` (B, T, M) and
            ``tail_code`` (B, T, r) float64, since fairseq halves what is float32.
        """
        batch = self.dataset.collater(samples, pad_to_length=pad_to_length)
        if not batch:
            return batch
        lines = self.lines[batch["id"].numpy()]  # fairseq has sorted the batch: go by id
        said = self.cache.read(lines, batch["target"].size(1))
        batch["teacher"] = {
            name: torch.from_numpy(
                values.astype(np.int64 if values.dtype.kind == "i" else np.float64)
            )
            for name, values in said.items()
        }
        return batch


def lines_of_cache(
    cache: TeacherCache, files: SplitFiles, split: str, with_images: bool
) -> List[int]:
    """The line of a cache for every sentence of a split, in the order of fairseq's data set.

    Args:
        cache: what a teacher has said.
        files: how the split is found.
        split: such as train.
        with_images: whether the student has images. If not, those that the teacher saw do not matter.

    Raises:
        TeacherCacheError: the cache does not know the texts; one line for each that it does not.
        SplitError: there is no such split, no such side of it, or its images are not named.
    """
    with_images = with_images and cache.stamp.images is not None
    found, problems = [], []
    for text in texts_of(files, split, cache.stamp.source_lang, with_images):
        try:
            first = cache.first_line(text)
            found.append(list(range(first, first + text.lines)))
        except TeacherCacheError as error:
            problems.append(f"{error}. Make a cache of this text with preprocess/cache_teacher.py.")
    if problems:
        raise TeacherCacheError("\n".join(problems))
    return files.in_order(found)


def texts_of(files: SplitFiles, split: str, source_lang: str, with_images: bool) -> List[Text]:
    """The parts of a split as a teacher's cache knows them.

    Args:
        files: how the split is found.
        split: such as train.
        source_lang: what the teacher reads.
        with_images: whether it reads images too.

    Raises:
        SplitError: there is no such split, no such side of it, or its images are not named.
    """
    parts = find_parts(files, split)
    sources = read_part_sides(files, split, source_lang)
    targets = read_part_sides(files, split, files.target_lang)
    lists = read_part_ids(files, split) if with_images else [None] * len(parts)
    return [
        Text(
            name=f"{part.name} in {files.data}",
            lines=part.sentences,
            source_sha256=_sha256(source),
            target_sha256=_sha256(target),
            images_sha256="" if image_ids is None else _sha256_of_ids(image_ids),
        )
        for part, source, target, image_ids in zip(parts, sources, targets, lists)
    ]


def _sha256(sentences) -> str:
    digest = hashlib.sha256()
    for place in range(len(sentences)):
        tokens = sentences[place].numpy().astype("<i8")
        digest.update(len(tokens).to_bytes(8, "little"))
        digest.update(tokens.tobytes())
    return digest.hexdigest()


def _sha256_of_ids(ids: List[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
