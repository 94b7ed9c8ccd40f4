"""A folder of binarised sentence pairs, as fairseq-preprocess makes it, of random words.

Lengths are those of Multi30k, words are as frequent as in a language (Zipf). Speed depends on both: on
lengths by padding, on frequencies by the rows of the embeddings that get a gradient.
"""

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import torch
from fairseq.data import Dictionary, indexed_dataset
from made_up_images import image_id

LANGUAGES = ("en", "de")
SHORTEST, LONGEST = 3, 60
OTHER_LENGTH = 1.5
"""standard deviation of by how many words a source is longer or shorter than its target"""


def write_text(
    folder: Path,
    sentences: Dict[str, int],
    symbols: int,
    words: Tuple[float, float],
    images: int,
    stretch: int = 1,
) -> Path:
    """Write dictionaries, splits and the lists of images; the folder.

    Args:
        folder: is made.
        sentences: of each split.
        symbols: V of each dictionary, fairseq's own included.
        words: of a target, mean and standard deviation; with a deviation of 0 all have the mean.
        images: N; sentence n has image n modulo N.
        stretch: how many times as long sources are.
    """
    folder.mkdir()
    rng = np.random.default_rng(1)
    dictionary = Dictionary()
    own = len(dictionary)
    for number in range(symbols - own):
        dictionary.add_symbol(f"w{number}")
    for lang in LANGUAGES:
        dictionary.save(str(folder / f"dict.{lang}.txt"))
    mean, deviation = words
    for split, count in sentences.items():
        target = rng.normal(mean, deviation, size=count)
        source = stretch * (target + rng.normal(0, OTHER_LENGTH if deviation else 0, size=count))
        for lang, drawn in zip(LANGUAGES, (source, target)):
            lengths = np.rint(drawn.clip(SHORTEST, stretch * LONGEST)).astype(int)
            lines = _lines(rng, lengths, own, symbols, dictionary.eos())
            _write(folder / f"{split}.{'-'.join(LANGUAGES)}.{lang}", lines, symbols)
        ids = "".join(f"{image_id(number % images)}\n" for number in range(count))
        (folder / f"{split}.images").write_text(ids)
    return folder


def _lines(rng, lengths: np.ndarray, first: int, symbols: int, eos: int) -> List[np.ndarray]:
    ranks = np.arange(1, symbols - first + 1)
    zipf = 1 / (ranks + 2.7)  # Mandelbrot's form
    drawn = rng.choice(np.arange(first, symbols), size=lengths.sum(), p=zipf / zipf.sum())
    return [np.append(line, eos) for line in np.split(drawn, lengths.cumsum()[:-1])]


def _write(prefix: Path, lines: List[np.ndarray], symbols: int) -> None:
    builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=symbols)
    for line in lines:
        builder.add_item(torch.from_numpy(line))
    builder.finalize(f"{prefix}.idx")
