"""Picture files as square arrays of pixels: the one way in which this project reads a picture.

It knows numpy and Pillow, neither torch nor fairseq. S is the side of the square in pixels.
"""

import os
import re
from typing import Optional, Union

import numpy as np
from PIL import Image, ImageOps

Picture = Union[str, "os.PathLike[str]", Image.Image]
"""the path of a picture, or a picture that is open already"""


def load_picture(picture: Picture, image_size: int) -> np.ndarray:
    """A picture as (S, S, 3) uint8, RGB, as :func:`resizing_in_words` says.

    Raises:
        OSError, ValueError: it cannot be read, or has grey values of more than 8 bits; and whatever
            else Pillow's readers raise at a bad file.
    """
    if isinstance(picture, Image.Image):
        return _square(picture, image_size)
    with Image.open(picture) as opened:
        return _square(opened, image_size)


def resizing_in_words(image_size: int) -> str:
    """What :func:`load_picture` does to a picture."""
    return (
        f"upright by EXIF, transparent parts on white, RGB, the whole picture resized to "
        f"{image_size}x{image_size} (Pillow bilinear, antialiased, aspect ratio not kept, no crop)"
    )


def size_in(words: str) -> Optional[int]:
    """The S of :func:`resizing_in_words`, or None where `words` do not begin as it does."""
    found = re.search(r"resized to (\d+)x\1 ", words)
    if found is None or not words.startswith(resizing_in_words(int(found[1]))):
        return None
    return int(found[1])


def _square(picture: Image.Image, image_size: int) -> np.ndarray:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise ValueError(f"grey values of more than 8 bits (mode {picture.mode})")
    upright = ImageOps.exif_transpose(picture)
    if "A" in upright.mode or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    square = upright.convert("RGB").resize((image_size, image_size), Image.BILINEAR)
    return np.array(square)
