"""Sentence pairs with the same sentences in the language that a teacher reads.

A teacher of a related pair, such as French to German for a student that translates English to German,
reads a third side. It lies beside the pair's: ``SPLIT.SRC-TGT.LANG.bin`` and ``.idx``, with
``dict.LANG.txt``.

Letters: B sentences, S' tokens of the teacher's source.
"""

from typing import List

import numpy as np
from fairseq.data import ConcatDataset, FairseqDataset, data_utils, indexed_dataset

from .complete_dataset import CompleteDataset
from .split_files import SplitError, SplitFiles, find_parts


class TeacherSourceDataset(CompleteDataset):
    """A data set whose mini-batches also hold what the teacher reads.

    Args:
        pairs: the sentence pairs, with or without images.
        sentences: the same sentences for the teacher, in the same order.
        pad: index of the padding symbol.

    Raises:
        ValueError: as many sentences as pairs are needed.
    """

    def __init__(self, pairs: FairseqDataset, sentences, pad: int):
        super().__init__(pairs)
        if len(sentences) != len(pairs):
            raise ValueError(f"{len(sentences)} sentences of the teacher for {len(pairs)} pairs")
        self.sentences = sentences
        self.pad = pad

    def collater(self, samples, pad_to_length=None):
        """Merge samples into a mini-batch.

        Returns:
            what the pairs make of it and, rows in the order of ``target``, ``teacher`` with
            ``src_tokens`` (B, S') int64, padded on the right, and ``src_lengths`` (B,) int64.
        """
        batch = self.dataset.collater(samples, pad_to_length=pad_to_length)
        if not batch:
            return batch
        rows = [self.sentences[place] for place in batch["id"].tolist()]  # fairseq has sorted them
        batch["teacher"] = {
            "src_tokens": data_utils.collate_tokens(rows, self.pad, left_pad=False),
            "src_lengths": batch["id"].new_tensor([len(row) for row in rows]),
        }
        return batch


def read_side(files: SplitFiles, split: str, lang: str):
    """The sentences of a split in a third language, in the order of fairseq's data set.

    Raises:
        SplitError: a part has no such side, or one with another number of sentences.
    """
    sides = read_part_sides(files, split, lang)
    repeats = files.in_order([[number] for number in range(len(sides))])
    return ConcatDataset([sides[number] for number in repeats])


def read_part_sides(files: SplitFiles, split: str, lang: str) -> List:
    """The same for each part of a split."""
    sides, problems = [], []
    for part in find_parts(files, split):
        path = part.prefix + lang
        if not indexed_dataset.dataset_exists(path, impl=files.dataset_impl):
            problems.append(
                f"{path}.bin does not exist, the sentences of {part.name} in the teacher's language. "
                "preprocess/prepare_multi30k.py --teacher-source makes such files."
            )
            continue
        side = data_utils.load_indexed_dataset(path, None, files.dataset_impl)
        if len(side) != part.sentences:
            problems.append(
                f"{path}.bin has {len(side)} sentences, but {part.name} in {files.data} has "
                f"{part.sentences}. Each must be there in all three languages, in the same order."
            )
        sides.append(side)
    if problems:
        raise SplitError(problems)
    return sides


def length_problems(sizes: np.ndarray, longest: int, what: str) -> List[str]:
    """Whether a teacher that reads at most `longest` tokens can read sentences of these sizes (N,)."""
    too_long = np.flatnonzero(np.asarray(sizes) > longest)
    if not len(too_long):
        return []
    return [
        f"the teacher reads at most {longest} {what}, of which {len(too_long)} of the {len(sizes)} "
        f"sentences have more, the first in line {too_long[0] + 1} ({sizes[too_long[0]]}). Take these "
        "lines out of all sides."
    ]
