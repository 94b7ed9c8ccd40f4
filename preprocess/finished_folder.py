"""Put a folder in place when it is finished, and tell later what it was made from."""

import json
import os
import shutil
from pathlib import Path
from typing import Dict

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
    found = _read_record(output)
    if not found:
        if not os.listdir(output):
            return False
        raise PreparationError(
            [
                f"{output} is not empty and was not finished by this script (no {SETTINGS} of it is "
                "there). Give another folder, or write into this one with --overwrite."
            ]
        )
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


def begin(output: Path) -> Path:
    """An empty folder beside the output, to make its files in; what a killed run left there is gone.

    Raises:
        PreparationError: files made there could not be moved into the output.
    """
    place = os.path.realpath(output)
    if os.path.ismount(place):
        raise PreparationError(
            [
                f"--output {output} is a mount point: its files would be made beside it, on another "
                "file system, and could not be moved into it. Give a folder in it."
            ]
        )
    partial = Path(f"{place}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def move(partial: Path, output: Path, settings: dict) -> None:
    """Put the finished files into the output, in the place of those of an earlier run."""
    output = Path(os.path.realpath(output))
    files = sorted(
        str(path.relative_to(partial))
        for path in partial.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    record = partial / SETTINGS
    record.write_text(json.dumps({**settings, FILES: files}, indent=2) + "\n", "utf-8")
    (output / "text").mkdir(parents=True, exist_ok=True)
    earlier = _read_record(output).get(FILES, [])
    if (output / SETTINGS).exists():  # from here on the folder is not finished
        (output / SETTINGS).replace(partial / f"earlier.{SETTINGS}")
    for name in files:
        (partial / name).replace(output / name)
    for name in set(earlier) - set(files):
        (output / name).unlink(missing_ok=True)
    record.replace(output / SETTINGS)
    shutil.rmtree(partial)


def _read_record(output: Path) -> Dict:
    """What an earlier run wrote into the output last; {} where it did not come to that."""
    try:
        found = json.loads((output / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get(FILES), list) else {}
