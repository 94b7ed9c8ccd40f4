"""The pictures of the quickstart corpus: simple drawings of objects, each recognisable by its shape.

An object is a sequence of strokes in a unit square (x to the right, y downwards), drawn in order
with two shades of one colour; "paper" is the background showing through a hole.
"""

from typing import Dict, NamedTuple, Tuple

from PIL import ImageDraw

Colour = Tuple[int, int, int]
Box = Tuple[float, float, float, float]
"""x0, y0, x1, y1 with x0 < x1 and y0 < y1"""


class Stroke(NamedTuple):
    """One shape of a drawing."""

    kind: str
    """"ellipse" and "block": x0 y0 x1 y1; "polygon" and "line": x y x y ...; "pie": x0 y0 x1 y1
    and the two angles in degrees, clockwise from three o'clock"""
    shade: str
    """"main", "dark" or "paper" """
    numbers: Tuple[float, ...]


def _stroke(text: str) -> Stroke:
    kind, shade, *numbers = text.split()
    return Stroke(kind, shade, tuple(float(number) for number in numbers))


def _drawing(*strokes: str) -> Tuple[Stroke, ...]:
    return tuple(_stroke(text) for text in strokes)


LINE_WIDTH = 0.07
"""of a "line", as a fraction of the object's size"""

DRAWINGS: Dict[str, Tuple[Stroke, ...]] = {
    "Fledermaus": _drawing(
        "polygon main .5 .45 .3 .2 0 .25 .08 .75 .2 .6 .32 .8 .5 .62 .68 .8 .8 .6 .92 .75 1 .25 .7 .2",
        "ellipse dark .4 .3 .6 .8",
        "polygon dark .4 .4 .4 .15 .5 .32 .6 .15 .6 .4",
    ),
    "Schläger": _drawing(
        "polygon dark .44 .6 .56 .6 .58 1 .42 1",
        "ellipse main .17 0 .83 .7",
        "block dark .36 .62 .64 .7",
    ),
    "Kranich": _drawing(
        "line dark .5 .6 .45 1",
        "line dark .62 .6 .66 1",
        "ellipse main .3 .4 .9 .66",
        "line main .36 .5 .22 .34 .34 .2 .24 .08",
        "polygon dark .28 .02 .28 .14 .04 .14",
        "polygon dark .8 .45 1 .75 .7 .62",
    ),
    "Kran": _drawing(
        "block main .2 .1 .32 1",
        "line paper .22 .9 .3 .7 .22 .5 .3 .3",
        "block main 0 .1 1 .2",
        "block dark .02 .2 .16 .38",
        "line dark .86 .2 .86 .62",
        "block dark .74 .62 .98 .86",
    ),
    "Robbe": _drawing(
        "polygon main .05 .3 .16 .18 .34 .22 .42 .5 .8 .68 1 .58 .96 .84 .6 .94 .22 .9 .12 .6",
        "polygon dark .3 .75 .52 .8 .34 1 .2 1",
        "ellipse dark .14 .26 .22 .34",
        "polygon dark .86 .66 1 .46 1 .9",
    ),
    "Siegel": _drawing(
        "polygon dark .3 .6 .1 1 .32 .92 .45 1 .5 .7 .55 1 .68 .92 .9 1 .7 .6",
        "ellipse main .12 0 .88 .76",
        "ellipse dark .24 .12 .76 .64",
        "polygon main .5 .16 .56 .32 .72 .34 .6 .44 .64 .6 .5 .5 .36 .6 .4 .44 .28 .34 .44 .32",
    ),
    "Fingernagel": _drawing(
        "ellipse main .2 0 .8 .7",
        "block main .2 .35 .8 1",
        "ellipse dark .3 .06 .7 .5",
        "line dark .3 .74 .7 .74",
        "line dark .3 .86 .7 .86",
    ),
    "Nagel": _drawing(
        "block dark .26 0 .74 .12",
        "polygon main .43 .12 .57 .12 .57 .8 .5 1 .43 .8",
    ),
    "Schleife": _drawing(
        "polygon dark .46 .5 .2 1 .42 .94 .5 .6 .58 .94 .8 1 .54 .5",
        "polygon main .5 .4 .06 .1 0 .7",
        "polygon main .5 .4 .94 .1 1 .7",
        "ellipse dark .39 .29 .61 .51",
    ),
    "Bogen": _drawing(
        "pie main -.36 0 .8 1 -68 68",
        "pie paper -.46 .07 .7 .93 -70 70",
        "line dark .43 .04 .43 .96",
        "line dark .14 .5 .9 .5",
        "polygon dark .84 .38 1 .5 .84 .62",
    ),
    "Rüssel": _drawing(
        "ellipse dark 0 .05 .42 .6",
        "ellipse dark .58 .05 1 .6",
        "ellipse main .25 .05 .75 .62",
        "polygon main .38 .5 .62 .5 .6 .8 .8 .86 .8 1 .5 1 .4 .8",
        "ellipse paper .35 .24 .43 .32",
        "ellipse paper .57 .24 .65 .32",
    ),
    "Koffer": _drawing(
        "block dark .34 .08 .66 .3",
        "block paper .42 .16 .58 .3",
        "block main 0 .26 1 .92",
        "block dark .16 .26 .26 .92",
        "block dark .74 .26 .84 .92",
    ),
    "Streichholz": _drawing(
        "polygon main .4 .4 .5 .5 .14 1 .04 .9",
        "ellipse dark .36 .3 .6 .54",
        "polygon main .5 .32 .52 .1 .7 0 .7 .14 .92 .2 .86 .44 .6 .46",
        "polygon paper .6 .34 .68 .18 .78 .28 .72 .38",
    ),
    "Fußballspiel": _drawing(
        "block main 0 .12 1 .88",
        "line paper .5 .12 .5 .88",
        "ellipse paper .34 .34 .66 .66",
        "ellipse main .41 .41 .59 .59",
        "block dark 0 .34 .14 .66",
        "block dark .86 .34 1 .66",
    ),
    "Palme": _drawing(
        "polygon dark .46 .3 .56 .3 .64 1 .48 1",
        "polygon main .5 .3 .2 .06 0 .24 .26 .22",
        "polygon main .5 .3 .8 .06 1 .24 .74 .22",
        "polygon main .5 .26 .24 .34 .1 .62 .34 .44",
        "polygon main .5 .26 .76 .34 .9 .62 .66 .44",
        "polygon main .5 .3 .42 .1 .54 0 .6 .14",
    ),
    "Handfläche": _drawing(
        "block main .26 .45 .8 1",
        "block main .26 .16 .37 .5",
        "block main .41 .02 .52 .5",
        "block main .56 .04 .67 .5",
        "block main .71 .14 .8 .5",
        "polygon main .3 .62 .06 .42 0 .52 .3 .86",
        "line dark .34 .62 .7 .72",
        "line dark .36 .8 .7 .56",
    ),
    "Nuss": _drawing(
        "ellipse main .14 .24 .86 1",
        "polygon main .3 .9 .5 1 .7 .9",
        "pie dark .06 .06 .94 .84 180 360",
        "block dark .46 0 .54 .14",
    ),
    "Schraubenmutter": _drawing(
        "polygon main .25 .07 .75 .07 1 .5 .75 .93 .25 .93 0 .5",
        "ellipse dark .24 .24 .76 .76",
        "ellipse paper .32 .32 .68 .68",
    ),
    "Brille": _drawing(
        "ellipse main 0 .32 .44 .76",
        "ellipse main .56 .32 1 .76",
        "ellipse paper .08 .4 .36 .68",
        "ellipse paper .64 .4 .92 .68",
        "line dark .42 .5 .58 .5",
        "line dark .03 .44 .14 .2",
        "line dark .97 .44 .86 .2",
    ),
    "Gläser": _drawing(
        "polygon main .02 .1 .44 .1 .36 .5 .1 .5",
        "line dark .23 .5 .23 .9",
        "block dark .06 .86 .4 .93",
        "polygon main .56 .1 .98 .1 .9 .5 .64 .5",
        "line dark .77 .5 .77 .9",
        "block dark .6 .86 .94 .93",
    ),
    "Schlüssel": _drawing(
        "ellipse main 0 .28 .44 .72",
        "ellipse paper .13 .41 .31 .59",
        "block main .42 .45 1 .55",
        "block dark .72 .55 .8 .76",
        "block dark .9 .55 .98 .76",
    ),
    "Taste": _drawing(
        "block dark 0 0 1 1",
        "block main .1 .05 .9 .8",
        "line paper .32 .7 .5 .16 .68 .7",
        "line paper .38 .52 .62 .52",
    ),
    "Ventilator": _drawing(
        "block dark .45 .6 .55 .95",
        "block dark .26 .92 .74 1",
        "ellipse dark .08 0 .92 .8",
        "ellipse paper .14 .06 .86 .74",
        "pie main .16 .08 .84 .72 -110 -70",
        "pie main .16 .08 .84 .72 10 50",
        "pie main .16 .08 .84 .72 130 170",
    ),
    "Fächer": _drawing(
        "pie main 0 .1 1 1.5 200 340",
        "pie paper .34 .6 .66 1 180 360",
        "line dark .5 .86 .12 .5",
        "line dark .5 .86 .34 .26",
        "line dark .5 .86 .66 .26",
        "line dark .5 .86 .88 .5",
    ),
}
"""what a German noun's object looks like"""


def draw_object(
    draw: ImageDraw.ImageDraw, name: str, box: Box, main: Colour, paper: Colour, mirror: bool
) -> None:
    """Draw the object with this German name so that it fills the square `box`, in pixels.

    Args:
        draw: what to draw on.
        name: a key of :data:`DRAWINGS`.
        box: the square the object fills.
        main: its colour; the dark shade is made from it.
        paper: the picture's background colour.
        mirror: swap left and right.
    """
    shades = {"main": main, "dark": tuple(value // 3 for value in main), "paper": paper}
    left, top, size = box[0], box[1], box[2] - box[0]

    for kind, shade, numbers in DRAWINGS[name]:
        colour = shades[shade]
        values = numbers[:4] if kind == "pie" else numbers
        points = [
            (left + size * (1 - x if mirror else x), top + size * y)
            for x, y in zip(values[::2], values[1::2])
        ]
        if kind == "polygon":
            draw.polygon(points, fill=colour)
        elif kind == "line":
            draw.line(points, fill=colour, width=max(2, round(LINE_WIDTH * size)))
        else:
            (xa, ya), (xb, yb) = points
            corners = (min(xa, xb), ya, max(xa, xb), yb)
            if kind == "ellipse":
                draw.ellipse(corners, fill=colour)
            elif kind == "block":
                draw.rectangle(corners, fill=colour)
            else:
                start, end = numbers[4:]
                draw.pieslice(
                    corners, *((180 - end, 180 - start) if mirror else (start, end)), colour
                )
