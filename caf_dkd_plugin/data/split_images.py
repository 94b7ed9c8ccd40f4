"""Which sentence of a binarised split has which image.

fairseq may read a split from several pairs of files (``train``, ``train1`` ...) and repeat the first
of them (``--upsample-primary``); the ids of ``SPLIT.images`` follow it through that. What happens
later (filtering by length, shuffling, batching) goes by the sentence's index and needs no care.
"""

import itertools
import os
from pathlib import Path
from typing import List, NamedTuple, Tuple

import numpy as np
from fairseq.data import data_utils, indexed_dataset

from .image_ids import ImageIdsError, in_short, read_image_ids
from .joined_stores import Images

NO_IMAGE = -1
"""the row of a sentence without an image"""


class SplitFiles(NamedTuple):
    """How fairseq finds the files of a split."""

    data: str
    """a binarised folder"""
    source_lang: str
    target_lang: str
    dataset_impl: str
    combine: bool
    """read SPLIT1, SPLIT2 ... too, as fairseq does for the training set"""
    upsample_primary: int
    """how often the first of several parts is repeated"""


class SplitImagesError(ValueError):
    """The images of a split do not fit its sentences; `problems` has one line each."""

    def __init__(self, problems: List[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def read_split_ids(files: SplitFiles, split: str) -> List[str]:
    """The image id of every sentence of a split, in the order of fairseq's data set.

    Returns:
        one id a sentence, "" where a sentence has no image on purpose.

    Raises:
        SplitImagesError: a list is missing, unreadable or has a wrong number of lines.
    """
    parts, problems = [], []
    for part, sentences in _parts(files, split):
        path = Path(files.data) / f"{part}.images"
        if not path.is_file():
            problems.append(
                f"{path} does not exist. It names the image of each of the {sentences} sentences "
                f"of {part}, one id a line; an empty line means that there is none on purpose."
            )
            continue
        try:
            ids = read_image_ids(path)
        except ImageIdsError as error:
            problems.append(str(error))
            continue
        if len(ids) != sentences:
            problems.append(
                f"{path} has {len(ids)} lines, but {part} in {files.data} has {sentences} "
                "sentences. There must be one line for each sentence, in the same order."
            )
        parts.append(ids)
    if problems:
        raise SplitImagesError(problems)
    if len(parts) > 1:
        parts[0] = parts[0] * files.upsample_primary
    return list(itertools.chain.from_iterable(parts))


def image_rows(store: Images, ids: List[str], split: str) -> Tuple[np.ndarray, List[str]]:
    """Look the ids of a split up in the store.

    Returns:
        (N,) int64, the row of each sentence's image or `NO_IMAGE`; and one line that says how many
        ids the store lacks and which are the first, or none.
    """
    rows = np.full(len(ids), NO_IMAGE, dtype=np.int64)
    absent = {}
    for sentence, image_id in enumerate(ids):
        row = store.row_of(image_id) if image_id else None
        if row is not None:
            rows[sentence] = row
        elif image_id:
            absent.setdefault(image_id, sentence)
    if not absent:
        return rows, []
    sentences = sum(1 for image_id in ids if image_id in absent)
    first = in_short([f"{name} (line {line + 1})" for name, line in absent.items()])
    return rows, [
        f"{store.path} lacks {len(absent)} of the images of {split}, which {sentences} of its "
        f"{len(ids)} sentences need: {first}"
    ]


def with_remedy(absent: List[str]) -> List[str]:
    """The lines of :func:`image_rows`, each with what to do about it."""
    return [
        f"{line}. Extract their features too, or give --image-missing mask to use these sentences "
        "without an image."
        for line in absent
    ]


def _parts(files: SplitFiles, split: str) -> List[Tuple[str, int]]:
    """The parts that fairseq reads for a split and their numbers of sentences."""
    found = []
    for number in itertools.count():
        part = f"{split}{number or ''}"
        prefix = _source_prefix(files, part)
        if prefix is None:
            break
        dataset = data_utils.load_indexed_dataset(prefix, None, files.dataset_impl)
        found.append((part, len(dataset)))
        if not files.combine:
            break
    if not found:
        raise SplitImagesError(
            [
                f"{files.data} has no split {split!r} for {files.source_lang}-{files.target_lang}. "
                "Binarise it with fairseq-preprocess, or name another."
            ]
        )
    return found


def _source_prefix(files: SplitFiles, part: str):
    source, target = files.source_lang, files.target_lang
    for pair in (f"{source}-{target}", f"{target}-{source}"):
        prefix = os.path.join(files.data, f"{part}.{pair}.{source}")
        if indexed_dataset.dataset_exists(prefix, impl=files.dataset_impl):
            return prefix
    return None
