"""Make the quickstart corpus: ambiguous English nouns that only the picture tells apart.

    python examples/quickstart/make_corpus.py --output OUT --train 3000 --valid 200 --test 400 --seed 1

writes, the same bytes for the same arguments (and the same Pillow):

==========================  =====================================================================
OUT/text/SPLIT.en, .de      one sentence a line; the German noun follows the sense
OUT/text/SPLIT.images       the image id of each line: a file name in OUT/images
OUT/text/SPLIT.senses       per line, between tabs: the ambiguous English noun, its right German
                            form, the wrong one, and the box of the object that decides, as
                            fractions of the picture: x0 y0 x1 y1
OUT/images/*.png            one picture a line: the deciding object among other nouns' objects
==========================  =====================================================================

Lines 2k and 2k + 1 of a split are twins: the same English sentence, once in either sense, in random
order and with pictures of their own. So the text says nothing about the sense, every even number of
first lines is balanced, and a system that does not look at the picture gets at most half of them right.
A longer split begins with the lines of a shorter one.
"""

import argparse
import colorsys
import random
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from drawings import Box, Colour, draw_object
from PIL import Image, ImageDraw


class German(NamedTuple):
    """A German noun, in the form that the accusative has."""

    form: str
    gender: str
    """"m", "f", "n", or "p" for plural"""


NOUNS: Dict[str, Tuple[German, German]] = {
    "bat": (German("Fledermaus", "f"), German("Schläger", "m")),
    "crane": (German("Kranich", "m"), German("Kran", "m")),
    "seal": (German("Robbe", "f"), German("Siegel", "n")),
    "nail": (German("Fingernagel", "m"), German("Nagel", "m")),
    "bow": (German("Schleife", "f"), German("Bogen", "m")),
    "trunk": (German("Rüssel", "m"), German("Koffer", "m")),
    "match": (German("Streichholz", "n"), German("Fußballspiel", "n")),
    "palm": (German("Palme", "f"), German("Handfläche", "f")),
    "nut": (German("Nuss", "f"), German("Schraubenmutter", "f")),
    "glasses": (German("Brille", "f"), German("Gläser", "p")),
    "key": (German("Schlüssel", "m"), German("Taste", "f")),
    "fan": (German("Ventilator", "m"), German("Fächer", "m")),
}
"""each ambiguous English noun and its two senses"""

DEFINITE = {"m": "den", "f": "die", "n": "das", "p": "die"}
INDEFINITE = {"m": "einen", "f": "eine", "n": "ein"}
ENDINGS = {
    "the": {"m": "en", "f": "e", "n": "e", "p": "en"},
    "a": {"m": "en", "f": "e", "n": "es"},
}
"""of an adjective in the accusative, after the article"""

ADJECTIVES = {
    "big": "groß",
    "small": "klein",
    "beautiful": "schön",
    "strange": "seltsam",
    "famous": "berühmt",
    "simple": "einfach",
}
SUBJECTS = {
    "a man": "ein Mann",
    "the woman": "die Frau",
    "the girl": "das Mädchen",
    "a boy": "ein Junge",
    "the child": "das Kind",
    "my brother": "mein Bruder",
    "our teacher": "unsere Lehrerin",
    "her friend": "ihr Freund",
}
VERBS = {
    "paint": ("malt", "malen", "gemalt"),
    "photograph": ("fotografiert", "fotografieren", "fotografiert"),
    "show": ("zeigt", "zeigen", "gezeigt"),
    "find": ("findet", "finden", "gefunden"),
    "describe": ("beschreibt", "beschreiben", "beschrieben"),
    "copy": ("kopiert", "kopieren", "kopiert"),
}
"""third person, infinitive and participle"""
PAST = {
    "paint": "painted",
    "photograph": "photographed",
    "show": "shown",
    "find": "found",
    "describe": "described",
    "copy": "copied",
}
PLACES = {
    "in the garden": "im Garten",
    "in the kitchen": "in der Küche",
    "on the street": "auf der Straße",
    "on the beach": "am Strand",
    "in front of the house": "vor dem Haus",
    "at school": "in der Schule",
}
TIMES = {"today": "heute", "this morning": "heute Morgen", "sometimes": "manchmal", "now": "jetzt"}
FRAMES = (
    ("{subject} {verbs} {object} {place}", "{subject} {verbs} {place} {object}"),
    ("{time} {subject} {verbs} {object}", "{time} {verbs} {subject} {object}"),
    ("{subject} wants to {verb} {object} {place}", "{subject} will {place} {object} {verb}"),
    ("{subject} has {done} {object} {place}", "{subject} hat {place} {object} {done}"),
    ("{time} {subject} can {verb} {object}", "{time} kann {subject} {object} {verb}"),
    ("I think that {subject} {verbs} {object}", "ich glaube, dass {subject} {object} {verbs}"),
)
"""English and German; the German verb moves"""

PICTURE_SIZE = 224
"""width and height of a picture in pixels"""
OBJECTS = (3, 4)
"""fewest and most objects in a picture, each in a quarter of its own"""
OBJECT_SIZES = (0.64, 0.96)
"""smallest and largest object, as fractions of its room"""

Room = Tuple[float, float, float]
"""left, top and side of a square part of the picture, in fractions of it"""
QUARTERS: Tuple[Room, ...] = ((0, 0, 0.5), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0.5))
WHOLE: Room = (0, 0, 1)


class Example(NamedTuple):
    """One line of the corpus."""

    english: str
    german: str
    image: str
    """image id: the picture's file name"""
    noun: str
    right: str
    wrong: str
    box: Box
    """of the deciding object, as fractions of the picture: x0 y0 x1 y1"""

    def senses_line(self) -> str:
        """The line of SPLIT.senses."""
        return "\t".join([self.noun, self.right, self.wrong, *(f"{edge:.4f}" for edge in self.box)])


class Placed(NamedTuple):
    """An object at its place in a picture."""

    name: str
    box: Box
    """fractions of the picture"""
    colour: Colour
    mirror: bool


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _third_person(verb: str) -> str:
    return "copies" if verb == "copy" else f"{verb}s"


def translate_object(article: str, adjective: str, noun: German) -> str:
    """The German accusative of "ARTICLE ADJECTIVE noun"; the adjective, English, may be empty."""
    words = [(DEFINITE if article == "the" else INDEFINITE)[noun.gender]]
    if adjective:
        words.append(ADJECTIVES[adjective] + ENDINGS[article][noun.gender])
    return " ".join([*words, noun.form])


def make_twins(noun: str, rng: random.Random) -> Tuple[str, Tuple[str, str]]:
    """An English sentence with this noun, and its translations in the first and the second sense."""
    english_frame, german_frame = rng.choice(FRAMES)
    # "a glasses" is not English; the article must not depend on the sense.
    article = "the" if noun == "glasses" else rng.choice(("a", "the"))
    adjective = rng.choice(["", *ADJECTIVES])
    subject, place, time, verb = (
        rng.choice(list(table)) for table in (SUBJECTS, PLACES, TIMES, VERBS)
    )
    verbs, infinitive, participle = VERBS[verb]

    english = english_frame.format(
        subject=subject,
        verb=verb,
        verbs=_third_person(verb),
        done=PAST[verb],
        object=" ".join(word for word in (article, adjective, noun) if word),
        place=place,
        time=time,
    )
    first, second = (
        german_frame.format(
            subject=SUBJECTS[subject],
            verb=infinitive,
            verbs=verbs,
            done=participle,
            object=translate_object(article, adjective, sense),
            place=PLACES[place],
            time=TIMES[time],
        )
        for sense in NOUNS[noun]
    )
    return _sentence(english), (_sentence(first), _sentence(second))


def _colour(
    rng: random.Random, saturation: Tuple[float, float], value: Tuple[float, float]
) -> Colour:
    parts = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    red, green, blue = (round(255 * part) for part in parts)
    return red, green, blue


def place(name: str, room: Room, rng: random.Random) -> Placed:
    """An object of random size, place, colour and direction inside a square room."""
    left, top, side = room
    size = side * rng.uniform(*OBJECT_SIZES)
    x, y = (edge + rng.uniform(0, side - size) for edge in (left, top))
    return Placed(
        name=name,
        box=(x, y, x + size, y + size),
        colour=_colour(rng, saturation=(0.5, 1), value=(0.5, 0.9)),
        mirror=rng.random() < 0.5,
    )


def compose(noun: str, deciding: str, rng: random.Random) -> List[Placed]:
    """Place the deciding object, first, and distractors: objects of other nouns, one each."""
    others = rng.sample([other for other in NOUNS if other != noun], rng.randint(*OBJECTS) - 1)
    names = [deciding] + [rng.choice(NOUNS[other]).form for other in others]
    rooms = rng.sample(QUARTERS, len(names))
    return [place(name, room, rng) for name, room in zip(names, rooms)]


def paint(objects: Sequence[Placed], size: int, rng: random.Random) -> Image.Image:
    """The picture of these objects on light paper, `size` pixels wide and high."""
    paper = _colour(rng, saturation=(0, 0.15), value=(0.9, 1))
    picture = Image.new("RGB", (size, size), paper)
    draw = ImageDraw.Draw(picture)
    for one in objects:
        left, top, right, _ = (edge * size for edge in one.box)
        box = (left, top, right, top + right - left)
        draw_object(draw, one.name, box, one.colour, paper, one.mirror)
    return picture


def make_split(split: str, count: int, seed: int, images: Path) -> List[Example]:
    """Sample the first `count` lines of a split and write their pictures into the folder `images`."""
    examples: List[Example] = []
    nouns: List[str] = []
    while len(examples) < count:
        # One generator for each pair of twins: earlier lines do not depend on how many follow.
        rng = random.Random(f"{seed} {split} {len(examples)}")
        if not nouns:
            nouns = rng.sample(list(NOUNS), len(NOUNS))
        noun = nouns.pop()
        english, translations = make_twins(noun, rng)
        for sense in rng.sample((0, 1), 2)[: count - len(examples)]:
            right, wrong = NOUNS[noun][sense].form, NOUNS[noun][1 - sense].form
            objects = compose(noun, right, rng)
            image = f"{split}_{len(examples):05d}.png"
            paint(objects, PICTURE_SIZE, rng).save(images / image, compress_level=1)
            examples.append(
                Example(english, translations[sense], image, noun, right, wrong, objects[0].box)
            )
    return examples


def make_corpus(output: Path, counts: Dict[str, int], seed: int) -> None:
    """Write the corpus, `counts[split]` lines of each split, into the folder `output`."""
    text, images = output / "text", output / "images"
    text.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        examples = make_split(split, count, seed, images)
        columns = {
            "en": [example.english for example in examples],
            "de": [example.german for example in examples],
            "images": [example.image for example in examples],
            "senses": [example.senses_line() for example in examples],
        }
        for suffix, lines in columns.items():
            path = text / f"{split}.{suffix}"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        print(f"{text / split}.{{{','.join(columns)}}}: {count} sentences, {count} pictures")


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    for split, count in (("train", 3000), ("valid", 200), ("test", 400)):
        parser.add_argument(f"--{split}", type=int, default=count, help="number of sentence pairs")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another corpus")
    args = parser.parse_args(argv)
    counts = {"train": args.train, "valid": args.valid, "test": args.test}
    make_corpus(args.output, counts, args.seed)


if __name__ == "__main__":
    main()
