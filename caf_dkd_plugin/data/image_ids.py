"""The text files that name the image of each sentence, such as ``DATA/train.images``.

One image id a line, in the order of the sentences; an empty line says that the sentence has no
image, on purpose. UTF-8; the line end is a line feed, with or without a carriage return, and the
last one may be missing. A last *empty* line therefore needs its line feed to count.
"""

import codecs
import os
from pathlib import Path
from typing import List, Sequence, Union

PathLike = Union[str, "os.PathLike[str]"]

SHOWN = 5
"""how many offending ids an error shows"""


class ImageIdsError(ValueError):
    """The file is not a list of image ids; the message says which line of which file is wrong."""


def read_image_ids(path: PathLike) -> List[str]:
    """The ids of a list, one for each line; "" where there is no image.

    Raises:
        ImageIdsError: the file is missing, is not UTF-8, or a line has spaces around its id.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImageIdsError(f"{path} cannot be read: {error.strerror or error}") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [_id_of(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def write_image_ids(path: PathLike, ids: Sequence[str]) -> None:
    """Write a list that :func:`read_image_ids` reads back; "" where there is no image.

    Raises:
        ImageIdsError: an id cannot stand on a line: it has spaces around it or a line break in it.
    """
    for number, image_id in enumerate(ids, 1):
        _check_id(image_id, f"{path}, line {number}")
    Path(path).write_bytes("".join(f"{image_id}\n" for image_id in ids).encode("utf-8"))


def in_short(ids: Sequence[str]) -> str:
    """The first of some ids, for a message."""
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")


def _id_of(line: bytes, where: str) -> str:
    try:
        image_id = line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageIdsError(f"{where}: not UTF-8 ({error}). Save the list as UTF-8.") from error
    _check_id(image_id, where)
    return image_id


def _check_id(image_id: str, where: str) -> None:
    if image_id != image_id.strip() or "\n" in image_id:
        raise ImageIdsError(
            f"{where}: {image_id!r} has spaces around the id or a line break in it. A line is one "
            "image id, or empty where the sentence has no image."
        )
