"""Put a folder in place when it is finished, and tell later what it was made from."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Dict, Iterable, Iterator, List

from preparation_error import PreparationError

from caf_dkd_plugin.data.image_ids import in_short
from caf_dkd_plugin.data.one_writer import OneWriter, OtherWriterError

SETTINGS = "settings.json"
TEXT = "text"
"""the folder in it that text goes into"""
FILES = "files"
"""Beside the settings: what lies in the folder"""


def own_input_problems(output: Path, folders: Iterable[Path]) -> List[str]:
    """Why an output cannot be written, whatever else is said: text would be put over the text it is made
    of.

    Args:
        output: the folder, whose text goes into ``output/text``.
        folders: those in which text is read.
    """
    written = os.path.realpath(output / TEXT)
    return [
        f"--output {output}: text is read in {folder}, which this would overwrite. Give another folder."
        for folder in dict.fromkeys(folders)
        if os.path.realpath(folder) == written
    ]


def is_finished(output: Path, settings: dict, overwrite: bool) -> bool:
    """Whether the folder was made from these settings; raise where it was made from others, or has lost
    files."""
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
    lost = [name for name in found[FILES] if not os.path.lexists(output / name)]
    if lost:
        raise PreparationError(
            [
                f"{output} was prepared from this, but has lost {len(lost)} of its files: "
                f"{in_short(lost)}. Make it again with --overwrite."
            ]
        )
    return True


@contextlib.contextmanager
def in_the_making(output: Path, settings: dict) -> Iterator[Path]:
    """An empty folder beside the output, to make its files in; what a killed run left there is gone.

    When the block is done they are put into the output, in the place of those of an earlier run.

    Raises:
        PreparationError: files made there could not be moved into the output, or another process is
            making it.
    """
    place = os.path.realpath(output)
    if os.path.ismount(place):
        raise PreparationError(
            [
                f"--output {output} is a mount point: its files would be made beside it, on another "
                "file system, and could not be moved into it. Give a folder in it."
            ]
        )
    with contextlib.suppress(FileExistsError):  # also where that is a file: the lock will say so
        os.makedirs(os.path.dirname(place))
    try:
        lock = OneWriter(Path(place))
    except OtherWriterError as error:
        raise PreparationError([str(error)]) from error
    try:
        partial = Path(f"{place}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _move(partial, Path(place), settings)
    finally:
        lock.release()


def _move(partial: Path, output: Path, settings: dict) -> None:
    files = sorted(
        str(path.relative_to(partial))
        for path in partial.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    record = partial / SETTINGS
    record.write_text(json.dumps({**settings, FILES: files}, indent=2) + "\n", "utf-8")
    (output / TEXT).mkdir(parents=True, exist_ok=True)
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
