"""The files of a folder and its sub-folders."""

import os
from pathlib import Path
from typing import Iterator, List, Tuple


def files_below(folder: Path) -> List[str]:
    """The paths of all files below `folder` that are not hidden, relative and sorted.

    A link to a folder counts as one, unless the link lies below that very folder: what is there is
    found without it.

    Raises:
        OSError: a folder cannot be read.
    """
    return sorted(_files(str(folder), "", ()))


def _files(folder: str, prefix: str, above: Tuple[os.stat_result, ...]) -> Iterator[str]:
    """`prefix` and the path below `folder` of each of its files; `above` are the folders it lies in."""
    own = os.stat(folder)
    if any(os.path.samestat(own, other) for other in above):
        return
    _, folders, files = next(os.walk(folder, onerror=_refuse))
    yield from (prefix + name for name in files if not name.startswith("."))
    for name in folders:
        if not name.startswith("."):
            yield from _files(os.path.join(folder, name), f"{prefix}{name}/", (*above, own))


def _refuse(error: OSError) -> None:
    raise OSError(
        f"the folder {error.filename} cannot be read: {error.strerror}. Make it readable, or take it "
        "away from there."
    ) from error
