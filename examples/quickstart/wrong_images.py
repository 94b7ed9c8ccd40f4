"""Give every sentence the picture of another noun's sentence, to see whether a model looks at it.

    python examples/quickstart/wrong_images.py --text DIR --split test --output DATA/test1.images

reads DIR/SPLIT.images and DIR/SPLIT.senses. Every picture is used once. The object that decides in it
belongs to another noun; one of the sentence's own noun may stand there by chance, as a distractor,
but without any relation to the sense that the sentence has.
"""

import argparse
import random
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Optional, Sequence


def derange(nouns: Sequence[str], seed: int) -> List[int]:
    """For each sentence, given its noun, the place of a sentence with another noun, each once.

    Raises:
        ValueError: more than half of the sentences share one noun.
    """
    places: Dict[str, List[int]] = defaultdict(list)
    for place, noun in enumerate(nouns):
        places[noun].append(place)
    largest = max(map(len, places.values()))
    if 2 * largest > len(nouns):
        raise ValueError(
            f"{largest} of {len(nouns)} sentences have the same noun, so not every sentence can get "
            "another noun's picture; make a larger split"
        )
    rng = random.Random(seed)
    groups = rng.sample(list(places.values()), len(places))
    grouped = [place for group in groups for place in rng.sample(group, len(group))]
    # Neighbours of one noun are at most `largest`, so that far on (around the end) stands another's.
    swapped = [0] * len(nouns)
    for here, there in zip(grouped, grouped[largest:] + grouped[:largest]):
        swapped[here] = there
    return swapped


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="folder of the corpus's text")
    parser.add_argument("--split", default="test", help="the split whose pictures to exchange")
    parser.add_argument("--output", type=Path, required=True, help="list of images to write")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    images = (args.text / f"{args.split}.images").read_text(encoding="utf-8").splitlines()
    senses = (args.text / f"{args.split}.senses").read_text(encoding="utf-8").splitlines()
    places = derange([line.split("\t")[0] for line in senses], args.seed)
    args.output.write_text("".join(f"{images[place]}\n" for place in places), encoding="utf-8")
    print(f"{args.output}: {len(places)} sentences, each with another noun's picture")


if __name__ == "__main__":
    main()
