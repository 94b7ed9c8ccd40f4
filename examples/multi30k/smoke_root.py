"""A copy of a few sentences of Multi30k, to see within minutes that everything runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "preprocess"))

from multi30k_release import read_splits, read_subset

TRAIN = 200
STUDENT = 100
"""of them: the first ones"""
OTHERS = 20
"""of every other split"""


def write_smoke_root(real: Path, root: Path, source: str, target: str) -> None:
    """Write the text, the lists of images and a subset "1k", which has STUDENT lines.

    Args:
        real: the Multi30k to copy from: the first lines of each split, and of the training set those
            of subsets/train_1k.lines, which have images, if there is such a file.
        root: the folder to write.
        source, target: the languages.

    Raises:
        PreparationError: all that is wrong with the real one.
    """
    splits, _ = read_splits(real, [source, target], [], [])
    lines = real / "subsets" / "train_1k.lines"
    (root / "text").mkdir(parents=True, exist_ok=True)
    for split in splits:
        chosen = range(min(OTHERS, len(split)))
        if split.name == "train":
            subset = str(lines) if lines.is_file() else str(len(split))
            chosen = read_subset(subset, len(split))[:TRAIN]
        columns = {**split.text, **({"images": split.image_ids} if split.image_ids else {})}
        for suffix, column in columns.items():
            content = "".join(f"{column[number]}\n" for number in chosen)
            (root / "text" / f"{split.name}.{suffix}").write_bytes(content.encode("utf-8"))
    (root / "subsets").mkdir(exist_ok=True)
    numbers = "".join(f"{number}\n" for number in range(STUDENT))
    (root / "subsets" / "train_1k.lines").write_text(numbers, encoding="utf-8")
