"""Put a folder in place when it is finished, and tell later what it was made from."""

import json
import os
import shutil
from pathlib import Path

from preparation_error import PreparationError

SETTINGS = "settings.json"
FILES = "files"
"""Beside the settings: what lies in the folder"""


def is_finished(output: Path, settings: dict, overwrite: bool) -> bool:
    """Whether the folder was made from these settings; raise where it was made from others."""
    if output.exists() and not output.is_dir():
        raise PreparationError([f"--output {output} is a file; give a folder"])
    if not output.exists() or overwrite:
        return False
    try:
        found = json.loads((output / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        if not os.listdir(output):
            return False
        raise PreparationError(
            [
                f"{output} is not empty and was not finished by this script (it has no {SETTINGS}). "
                "Give another folder, or write into this one with --overwrite."
            ]
        ) from None
    keys = [key for key in {**settings, **found} if key != FILES]
    changed = [key for key in keys if found.get(key) != settings.get(key)]
    if changed:
        raise PreparationError(
            [
                f"{output} was prepared from something else (other {', '.join(changed)}). Give another "
                "folder, or replace this one with --overwrite."
            ]
        )
    return True


def move(partial: Path, output: Path, settings: dict) -> None:
    """Put the finished files into the output, in the place of those of an earlier run."""
    (output / "text").mkdir(parents=True, exist_ok=True)
    record = output / SETTINGS
    if record.exists():
        for name in json.loads(record.read_text("utf-8"))[FILES]:
            (output / name).unlink(missing_ok=True)
        record.unlink()
    files = sorted(
        str(path.relative_to(partial))
        for path in partial.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    for name in files:
        (partial / name).replace(output / name)
    shutil.rmtree(partial)
    record.write_text(json.dumps({**settings, FILES: files}, indent=2) + "\n", "utf-8")
