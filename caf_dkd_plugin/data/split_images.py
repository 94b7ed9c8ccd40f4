"""Which sentence of a binarised split has which image."""

from pathlib import Path
from typing import List, Tuple

import numpy as np

from .image_ids import ImageIdsError, in_short, read_image_ids
from .joined_stores import Images
from .split_files import SplitError, SplitFiles, find_parts

NO_IMAGE = -1
"""the row of a sentence without an image"""


def read_split_ids(files: SplitFiles, split: str) -> List[str]:
    """The image id of every sentence of a split, in the order of fairseq's data set.

    Returns:
        one id a sentence, "" where a sentence has no image on purpose.

    Raises:
        SplitError: a list is missing, unreadable or has a wrong number of lines.
    """
    return files.in_order(read_part_ids(files, split))


def read_part_ids(files: SplitFiles, split: str) -> List[List[str]]:
    """The same for each part of a split, in the order of its lines."""
    parts, problems = [], []
    for part in find_parts(files, split):
        path = Path(files.data) / f"{part.name}.images"
        if not path.is_file():
            problems.append(
                f"{path} does not exist. It names the image of each of the {part.sentences} sentences "
                f"of {part.name}, one id a line; an empty line means that there is none on purpose."
            )
            continue
        try:
            ids = read_image_ids(path)
        except ImageIdsError as error:
            problems.append(str(error))
            continue
        if len(ids) != part.sentences:
            problems.append(
                f"{path} has {len(ids)} lines, but {part.name} in {files.data} has {part.sentences} "
                "sentences. There must be one line for each sentence, in the same order."
            )
        parts.append(ids)
    if problems:
        raise SplitError(problems)
    return parts


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
