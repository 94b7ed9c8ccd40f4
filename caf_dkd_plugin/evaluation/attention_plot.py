"""Draw where a source word looks: the picture with its attention over the regions.

Letters: S source tokens, R = rows x columns regions of the picture, row by row.
"""

import textwrap
import unicodedata
from typing import List, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.pictures import load_picture
from .outputs import PIECE, UNKNOWN

CONTINUED = "@@"
"""with which subword-nmt ends a piece that is not a word's last"""
PANEL_SIZE = 224
"""width and height in pixels of each copy of the picture"""
CAPTION_HEIGHT = 22
GAP = 8
STRENGTH = 0.55
"""how much of a heat map covers the picture"""
PAPER = (255, 255, 255)
INK = (0, 0, 0)
CHARACTER_WIDTH = 7
"""of a caption, in pixels; most are narrower"""
LINE_HEIGHT = 14

SPELLED = {
    **{"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"},
    **dict.fromkeys("\u201c\u201d\u201e", '"'),
    **dict.fromkeys("\u2018\u2019\u201a", "'"),
    **dict.fromkeys("\u2013\u2014", "-"),
}
"""what stands for quotation marks, dashes and German letters: Pillow's own font has ASCII only"""


def plot_attention(
    picture: Image.Image,
    tokens: Sequence[str],
    attention: np.ndarray,
    shown: Sequence[int],
    grid: Tuple[int, int],
) -> Image.Image:
    """The picture, and beside it, for each token shown, the picture under a heat map.

    A heat map is scaled to its own maximum; its caption says the token and that maximum. Regions
    are drawn as they are, without interpolation. A token whose attention is all zero (no image)
    leaves the picture as it is.

    Args:
        picture: the picture, of any size; it is made square like those that the CNN read.
        tokens: the S source tokens.
        attention: (S, R), each row summing to 1 or 0, averaged over the heads.
        shown: which tokens to draw, as places in `tokens`.
        grid: (rows, columns) of the regions.

    Returns:
        a new picture with ``1 + len(shown)`` panels in a row.

    Raises:
        ValueError: tokens, attention, grid and places do not fit each other.
    """
    attention = np.asarray(attention, dtype=np.float64)
    if attention.shape != (len(tokens), grid[0] * grid[1]):
        raise ValueError(
            f"{len(tokens)} tokens and a grid of {grid[0]} x {grid[1]} regions need attention of "
            f"shape {(len(tokens), grid[0] * grid[1])}, not {attention.shape}"
        )
    outside = [place for place in shown if not 0 <= place < len(tokens)]
    if outside:
        raise ValueError(f"there is no token {outside[0]} among {len(tokens)}: {' '.join(tokens)}")

    plain = Image.fromarray(load_picture(picture, PANEL_SIZE))
    panels = [(plain, "")]
    for place in shown:
        heat = attention[place].reshape(grid)
        panels.append((_overlay(plain, heat), f"{tokens[place]}  (max {heat.max():.2f})"))
    return _side_by_side(panels)


def heading(text: str, width: int) -> Image.Image:
    """Lines of text to stand above a row of panels.

    Args:
        text: what they say; letters that Pillow's font lacks are spelled without their accents.
        width: in pixels.
    """
    lines = textwrap.wrap(_spelled(text), (width - 2 * GAP) // CHARACTER_WIDTH)
    strip = Image.new("RGB", (width, GAP + LINE_HEIGHT * len(lines)), PAPER)
    ImageDraw.Draw(strip).text(
        (GAP, GAP), "\n".join(lines), fill=INK, font=ImageFont.load_default()
    )
    return strip


def whole_words(pieces: Sequence[str], attention: np.ndarray) -> Tuple[List[str], np.ndarray]:
    """Join pieces into words, whose attention is the mean of their pieces'.

    Args:
        pieces: S source tokens. Of sentencepiece's a word's first one begins with "▁", of subword-nmt's
            all but a word's last one end with "@@". Where none does, they are words already. An unknown
            one does not tell whether it begins a word; it is taken for one, except after a bare "▁".
        attention: (S, R).

    Returns:
        the W words and their attention (W, R).
    """
    if any(piece.startswith(PIECE) for piece in pieces):
        begins = [
            piece.startswith(PIECE) or (piece == UNKNOWN and before != PIECE)
            for before, piece in zip(["", *pieces], pieces)
        ]
        bare = [piece.lstrip(PIECE) for piece in pieces]
    else:
        begins = [True, *(not piece.endswith(CONTINUED) for piece in pieces[:-1])]
        bare = [piece.removesuffix(CONTINUED) for piece in pieces]
    starts = [place for place, begin in enumerate(begins) if place == 0 or begin]
    ends = [*starts[1:], len(pieces)]
    words = ["".join(bare[a:b]) for a, b in zip(starts, ends)]
    return words, np.stack([attention[a:b].mean(axis=0) for a, b in zip(starts, ends)])


def stack(rows: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other, each at the left edge."""
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _spelled(text: str) -> str:
    """A text in ASCII."""
    plain = unicodedata.normalize("NFKD", text.translate(str.maketrans(SPELLED)))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letters).encode("ascii", "replace").decode("ascii")


def _overlay(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Cover a picture with red where `heat`, (rows, columns), is high and blue where it is low."""
    highest = heat.max()
    if highest <= 0:
        return picture
    level = Image.fromarray(np.rint(255 * heat / highest).astype(np.uint8))
    level = level.resize(picture.size, Image.NEAREST)
    zero = Image.new("L", picture.size)
    colour = Image.merge("RGB", (level, zero, level.point(lambda value: 255 - value)))
    return Image.blend(picture, colour, STRENGTH)


def _side_by_side(panels: Sequence[Tuple[Image.Image, str]]) -> Image.Image:
    width = len(panels) * (PANEL_SIZE + GAP) + GAP
    sheet = Image.new("RGB", (width, PANEL_SIZE + CAPTION_HEIGHT + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for number, (panel, caption) in enumerate(panels):
        left = GAP + number * (PANEL_SIZE + GAP)
        sheet.paste(panel, (left, GAP))
        draw.text((left, GAP + PANEL_SIZE + 4), _spelled(caption), fill=INK, font=font)
    return sheet
