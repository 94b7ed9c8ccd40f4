"""Sentence pairs with what a teacher's cache says of them.

Letters: B sentences, T target tokens, k symbols kept of each token, M temperatures.
"""

import hashlib
from typing import List, Optional, Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset, data_utils

from .complete_dataset import CompleteDataset
from .split_files import Part, SplitFiles, find_parts
from .split_images import read_part_ids
from .teacher_cache import TeacherCache, Text


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
            ``topk_ids`` (B, T, k) int64, ``topk_log_probs`` (B, T, k) and ``tail_log_mass`` (B, T, M)
            float64, since fairseq halves what is float32.
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


def lines_of_cache(cache: TeacherCache, files: SplitFiles, split: str) -> List[int]:
    """The line of a cache for every sentence of a split, in the order of fairseq's data set.

    Raises:
        TeacherCacheError: the cache does not know one of the texts.
        SplitError: there is no such split, or images that the teacher has seen are not named.
    """
    texts = texts_of(files, split, with_images=cache.stamp.images is not None)
    firsts = [cache.first_line(text) for text in texts]
    return files.in_order(
        [list(range(first, first + text.lines)) for first, text in zip(firsts, texts)]
    )


def texts_of(files: SplitFiles, split: str, with_images: bool) -> List[Text]:
    """The parts of a split as a teacher's cache knows them.

    Args:
        files: how the split is found.
        split: such as train.
        with_images: whether the teacher reads images.

    Raises:
        SplitError: there is no such split, or its images are not named.
    """
    parts = find_parts(files, split)
    lists = read_part_ids(files, split) if with_images else [None] * len(parts)
    return [_text(files, part, ids) for part, ids in zip(parts, lists)]


def _text(files: SplitFiles, part: Part, image_ids: Optional[List[str]]) -> Text:
    source, target = (
        data_utils.load_indexed_dataset(part.prefix + lang, None, files.dataset_impl)
        for lang in (files.source_lang, files.target_lang)
    )
    return Text(
        name=f"{part.name} in {files.data}",
        lines=part.sentences,
        source_sha256=_sha256(source),
        target_sha256=_sha256(target),
        images_sha256="" if image_ids is None else _sha256_of_ids(image_ids),
    )


def _sha256(sentences) -> str:
    digest = hashlib.sha256()
    for place in range(len(sentences)):
        tokens = sentences[place].numpy().astype("<i8")
        digest.update(len(tokens).to_bytes(8, "little"))
        digest.update(tokens.tobytes())
    return digest.hexdigest()


def _sha256_of_ids(ids: List[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
