"""How much every program does: what `make bench` measures, and the same shrunk to seconds."""

from typing import NamedTuple, Tuple


class Sizes(NamedTuple):
    """Of models, data and rounds."""

    widths: Tuple[int, ...]
    """d: of embeddings, encoder, decoder and fusion"""
    symbols: int
    """V, of each dictionary"""
    tokens: int
    """of a mini-batch (--max-tokens)"""
    sentences: int
    """of the training set"""
    words: Tuple[float, float]
    """of a sentence: mean and standard deviation"""
    rounds: int
    steps: Tuple[int, ...]
    """of training in a round, at each width"""
    translated: int
    """sentences that are translated in a round"""
    images: int
    """N, of an image store"""
    images_times: int
    """how many times as many the larger store has"""
    regions: int
    features: int
    """D"""
    read_batch: int
    """images that are read at once"""
    pictures: int
    """files that features are read of, in a round"""
    picture_size: int
    """side in pixels of what the backbone sees"""


FULL = Sizes(
    widths=(256, 512),
    symbols=6000,
    tokens=4000,
    sentences=6000,
    words=(12, 4),
    rounds=5,
    steps=(2, 1),
    translated=128,
    images=7000,
    images_times=10,
    regions=49,
    features=512,
    read_batch=64,
    pictures=64,
    picture_size=224,
)
"""words a sentence as in Multi30k, regions and features of ResNet-18's last map"""

QUICK = FULL._replace(
    widths=(16,),
    symbols=60,
    tokens=200,
    sentences=64,
    rounds=2,
    steps=(1,),
    translated=8,
    images=40,
    images_times=2,
    regions=4,
    features=8,
    read_batch=8,
    pictures=4,
    picture_size=64,
)
"""to see that a program runs; its figures mean nothing"""
