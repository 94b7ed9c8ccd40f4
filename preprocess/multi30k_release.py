"""Read the splits of a copy of Multi30k, whole or by line numbers."""

import codecs
import gzip
import os
import re
import zlib
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from preparation_error import PreparationError

from caf_dkd_plugin.data.image_ids import ImageIdsError, read_image_ids

LANGUAGES = ("en", "de", "fr", "cs")
SPLITS = {
    "train": "train",
    "val": "valid",
    "val_images": "valid1",
    "test_2016_flickr": "test",
    "test_2017_flickr": "test1",
    "test_2017_mscoco": "test2",
    "test_heldout": "test3",
    "test_2018_flickr": "test4",
}
"""Multi30k's name of a split: fairseq's. The numbers stay, whichever splits there are."""
OFFICIAL_LISTS = ".txt"
"""how the lists of images of the official release end"""


class Layout(NamedTuple):
    """Where a release keeps its files."""

    text: Path
    lists: Path
    list_suffix: str
    pictures: Path


class Split(NamedTuple):
    """The sentences of a split; all lists have one entry for each."""

    name: str
    """Multi30k's name; fairseq's is SPLITS[name]"""
    text: Dict[str, List[str]]
    """language: raw sentences"""
    image_ids: Optional[List[str]]
    """"" for a sentence without an image; None when the release has no list for this split"""

    @property
    def prefix(self) -> str:
        """fairseq's name."""
        return SPLITS[self.name]

    def __len__(self) -> int:
        return len(next(iter(self.text.values())))


def find_layout(root: Path) -> Layout:
    """Tell the release's layout by its folders."""
    if (root / "text").is_dir():
        return Layout(root / "text", root / "text", ".images", root / "images")
    for task in (root, root / "data" / "task1"):
        if (task / "raw").is_dir():
            return Layout(task / "raw", task / "image_splits", OFFICIAL_LISTS, root / "images")
    raise PreparationError(
        [
            f"{root} is no Multi30k: there is neither text/ nor raw/ nor data/task1/raw/ in it. Give a "
            "clone of github.com/multi30k/dataset, or a folder with text/SPLIT.LANG, as --root."
        ]
    )


def languages_of(root: Path) -> List[str]:
    """The languages that the training set is there in."""
    layout = find_layout(root)
    return [lang for lang in LANGUAGES if _text_path(layout, "train", lang)]


def read_lines(path: Path) -> List[str]:
    """The lines of a text file, gzipped or not. Only a line feed ends a line, as for `wc -l`."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise PreparationError([f"{path} cannot be read: {error}"]) from error
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_splits(
    root: Path, pair: Sequence[str], sides: Sequence[str], train_only: Sequence[str]
) -> Tuple[List[Split], List[str]]:
    """All splits that have both languages of a pair, and in words what is left out.

    Args:
        root: the release.
        pair: the languages that a split must have.
        sides: languages that a split may have besides; the training set must.
        train_only: languages that are read of the training set besides, which must have them.

    Raises:
        PreparationError: all that is wrong with the files.
    """
    layout = find_layout(root)
    splits, left_out, problems = [], [], []
    for name in SPLITS:
        languages = [*pair, *sides, *(train_only if name == "train" else ())]
        paths = {lang: _text_path(layout, name, lang) for lang in languages}
        lacking = [lang for lang, path in paths.items() if path is None]
        if lacking and name == "train":
            problems.append(
                f"{layout.text} has no train.{' and no train.'.join(lacking)}; ask for other "
                "languages or add the text"
            )
            continue
        if set(lacking) & set(pair):
            lacking = [lang for lang in lacking if lang in pair]
            left_out.append(f"absent, left out: {name} (no {' and no '.join(lacking)})")
            continue
        found = {lang: path for lang, path in paths.items() if path is not None}
        try:
            split = Split(
                name, {lang: read_lines(path) for lang, path in found.items()}, _ids(layout, name)
            )
        except (PreparationError, ImageIdsError) as error:
            problems.append(str(error))
            continue
        counts = {str(path): len(split.text[lang]) for lang, path in found.items()}
        if split.image_ids is not None:
            counts[str(_list_path(layout, name))] = len(split.image_ids)
        if len(set(counts.values())) > 1:
            numbers = ", ".join(f"{path} has {count}" for path, count in counts.items())
            problems.append(f"the lines of {name} do not belong together: {numbers}")
        elif not len(split):
            problems.append(f"{name} has no lines")
        splits.append(split)
    try:
        unknown = _unknown_names(layout, pair)
    except PreparationError as error:
        problems += error.problems
        unknown = []
    if unknown:
        left_out.append(
            f"left out, since no split is called so: {', '.join(unknown)}. The names are "
            f"{', '.join(SPLITS)}."
        )
    if problems:
        raise PreparationError(problems)
    return splits, left_out


def read_pictures(root: Path) -> Optional[Set[str]]:
    """The names of a release's pictures; None where it has no folder of them.

    Raises:
        PreparationError: the folder cannot be read.
    """
    pictures = find_layout(root).pictures
    return set(_names_in(pictures)) if pictures.is_dir() else None


def _names_in(folder: Path) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise PreparationError([f"{folder} cannot be read: {error.strerror}"]) from error


def _unknown_names(layout: Layout, pair: Sequence[str]) -> List[str]:
    """What texts of a pair are called that are no split's."""
    texts = [name.removesuffix(".gz").rpartition(".") for name in _names_in(layout.text)]
    names = {name for name, _, lang in texts if lang in pair and not name.startswith(".")}
    return sorted(names - set(SPLITS))


def _text_path(layout: Layout, name: str, lang: str) -> Optional[Path]:
    for path in (layout.text / f"{name}.{lang}", layout.text / f"{name}.{lang}.gz"):
        if path.is_file():
            return path
    return None


def _list_path(layout: Layout, name: str) -> Path:
    return layout.lists / f"{name}{layout.list_suffix}"


def _ids(layout: Layout, name: str) -> Optional[List[str]]:
    path = _list_path(layout, name)
    if not path.is_file():
        return None
    ids = read_image_ids(path)
    if layout.list_suffix != OFFICIAL_LISTS:
        return ids
    # The official list of COCO pictures names a caption after each: NAME.jpg#NUMBER.
    return [re.sub(r"#\d+$", "", image_id) for image_id in ids]


def read_subset(subset: str, lines: int) -> List[int]:
    """The line numbers, from zero, that `--subset` chooses of a split of so many lines."""
    if subset.isdigit():
        if not 1 <= int(subset) <= lines:
            raise PreparationError([f"--subset {subset}: train has {lines} lines"])
        return list(range(int(subset)))
    numbers, problems, seen = [], [], set()
    for place, line in enumerate(read_lines(Path(subset)), 1):
        number = int(line) if line.strip().isdecimal() else -1
        if not 0 <= number < lines:
            problems.append(f"{line!r} (line {place}) is none of the line numbers 0 to {lines - 1}")
        elif number in seen:
            problems.append(f"{number} (line {place}) is there twice")
        seen.add(number)
        numbers.append(number)
    if problems:
        more = f" and {len(problems) - 1} more such lines" if len(problems) > 1 else ""
        raise PreparationError([f"--subset {subset}: {problems[0]}{more}"])
    if not numbers:
        raise PreparationError([f"--subset {subset} is empty"])
    return numbers


def take(split: Split, numbers: Sequence[int]) -> Split:
    """The sentences of a split with these numbers, in this order."""
    return Split(
        split.name,
        {lang: [text[number] for number in numbers] for lang, text in split.text.items()},
        split.image_ids and [split.image_ids[number] for number in numbers],
    )


def in_languages(split: Split, languages: Iterable[str]) -> Split:
    """A split without its other languages."""
    return Split(split.name, {lang: split.text[lang] for lang in languages}, split.image_ids)
