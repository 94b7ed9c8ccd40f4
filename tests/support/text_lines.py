"""Texts as the scripts read and write them."""

import gzip
from pathlib import Path
from typing import Iterable, List


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Each with a newline, in UTF-8; compressed if the name ends in .gz. -> path"""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read_lines(path: Path) -> List[str]:
    """Split at newlines alone, of which the last line has one, too."""
    return path.read_bytes().decode("utf-8").split("\n")[:-1]
