"""Image stores and pictures of random content.

Letters: N images, R regions, D feature size.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from caf_dkd_plugin.data.image_store import Description
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter

DESCRIPTION = Description("made-up", "grid", "none", "0" * 64, "none")
BLOCK = 256
"""rows that are written at once, and whose numbers repeat"""
PICTURE = (500, 375)
"""width and height of a photograph, as most of Flickr30k's"""


def image_id(number: int) -> str:
    """Of image `number`."""
    return f"{number}.jpg"


def features(regions: int, size: int) -> np.ndarray:
    """(BLOCK, R, D) float16, the same in every run."""
    return np.random.default_rng(1).normal(size=(BLOCK, regions, size)).astype("float16")


def write_store(path: Path, images: int, regions: int, size: int) -> Path:
    """A float16 store of `images` x `regions` x `size`; its path."""
    ids = [image_id(number) for number in range(images)]
    writer = ImageStoreWriter(path, ids, (regions, size), "float16", DESCRIPTION)
    block = features(regions, size)
    for start in range(0, images, BLOCK):
        rows = range(start, min(start + BLOCK, images))
        writer.write(rows, block[: len(rows)])
    writer.finish()
    return path


def write_pictures(folder: Path, count: int) -> None:
    """JPEG files as large, and about as smooth, as photographs."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        coarse = rng.integers(0, 256, size=(24, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(PICTURE, Image.Resampling.BICUBIC)
        picture.save(folder / image_id(number), quality=90)
