"""Pretrain the quickstart's CNN: what ImageNet is to photographs, in little.

    python examples/quickstart/pretrain_cnn.py --output FILE.pt

The method wants a CNN that has learned, on other pictures, to tell objects apart; the weights of one
cannot be shipped with this demo, and random ones are too weak (a text-to-image attention trained on
1000 pictures finds 61 % of the senses in random resnet18 features, 98 % in these). So a
resnet18 learns to name the single object of pictures drawn for this purpose. It sees neither the
corpus's pictures nor its sentences. FILE is a state dict for ``extract_features.py --weights FILE``.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
import torchvision
from make_corpus import NOUNS, PICTURE_SIZE, WHOLE, paint, place
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import normalize, to_tensor
from tqdm import trange

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caf_dkd_plugin.modules.visual_backbone import PIXEL_MEAN, PIXEL_STD

BACKBONE = "resnet18"
IMAGE_SIZE = 128
"""pixels at which the corpus's pictures are to be read with these weights"""
CLASSES = [sense.form for senses in NOUNS.values() for sense in senses]
BATCH = 32
PEAK_RATE = 2e-3


def draw_batch(rng: random.Random) -> Tuple[Tensor, Tensor]:
    """Pictures of one object each, as large as an object of the corpus, and the objects' numbers.

    Returns:
        (BATCH, 3, P, P), normalised, with P = IMAGE_SIZE / 2; and (BATCH,), places in CLASSES.
    """
    labels = [rng.randrange(len(CLASSES)) for _ in range(BATCH)]
    pictures = [
        # A quarter of a picture of the corpus, drawn and made smaller as those are.
        paint([place(CLASSES[label], WHOLE, rng)], PICTURE_SIZE // 2, rng).resize(
            (IMAGE_SIZE // 2, IMAGE_SIZE // 2), Image.BILINEAR
        )
        for label in labels
    ]
    pixels = torch.stack([to_tensor(picture) for picture in pictures])
    return normalize(pixels, PIXEL_MEAN, PIXEL_STD), torch.tensor(labels)


def pretrain(steps: int, seed: int) -> Tuple[torch.nn.Module, float]:
    """Train the network; returns it with its accuracy on the last batches, before learning them."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    # With ImageNet's 1000 classes, so that the state dict is one of torchvision's resnet18.
    network = torchvision.models.get_model(BACKBONE, weights=None).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    right = []
    with trange(steps, desc=f"pretraining {BACKBONE}", unit="batch") as progress:
        for _ in progress:
            pixels, labels = draw_batch(rng)
            logits = network(pixels)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            right.append((logits.argmax(dim=1) == labels).float().mean().item())
            progress.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
    last = right[-10:]
    return network, sum(last) / len(last)


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="state dict to write")
    parser.add_argument("--steps", type=int, default=140, help=f"batches of {BATCH} pictures")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    network, accuracy = pretrain(args.steps, args.seed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), args.output)
    print(f"{args.output}: {BACKBONE}, names {accuracy:.1%} of {len(CLASSES)} kinds of objects")


if __name__ == "__main__":
    main()
