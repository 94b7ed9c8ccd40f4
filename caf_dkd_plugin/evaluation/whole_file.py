"""Results are written whole or not at all."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List


def destination_problems(option: str, path: Path) -> List[str]:
    """Why a file cannot be written, to be said before the work; `option` names it."""
    if path.is_dir():
        return [f"{option} {path} is a folder; name the file to write"]
    if not path.parent.is_dir():
        return [f"{option} {path}: there is no folder {path.parent}"]
    return []


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` once all of it is written."""
    partial = Path(f"{path}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that people can read, too."""
    with whole_file(path) as partial:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        partial.write_text(f"{text}\n", encoding="utf-8")
