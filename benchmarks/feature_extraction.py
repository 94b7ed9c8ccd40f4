"""Reading features of photographs with ResNet-18, beside the bare network on tensors in memory.

    python benchmarks/feature_extraction.py [--quick] [--json FILE]

Ours opens JPEG files, makes them square, runs the network and writes the store. In the row with a
worker process another core opens the files meanwhile, and time is that on the wall; in the one without,
all of it is this process's time.
"""

import itertools
import sys
from pathlib import Path
from typing import Callable

if __name__ == "__main__":
    import start  # noqa: F401

import extract_features  # of preprocess/
import torch
import torchvision
from made_up_images import write_pictures
from picture_batches import PictureBatches  # of preprocess/
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed, wall_clock
from rows import Bound, Found, Required, Row
from sizes import Sizes

from caf_dkd_plugin.data.files_below import files_below
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.data.photographs import features_description
from caf_dkd_plugin.modules.visual_backbone import VisualBackbone

AT_LEAST = Required(Bound.AT_LEAST, 0.85)
BACKBONE = "resnet18"
BATCH = 32
CLOCKS = {1: wall_clock, 0: cpu_clock}
"""by number of workers"""


def measure(sizes: Sizes, scratch: Path) -> Found:
    """Two rows; the one with a worker has a requirement."""
    write_pictures(scratch / "pictures", sizes.pictures)
    found = []
    for workers, clock in CLOCKS.items():
        sides = {
            "ours": speed(extracting(scratch, sizes.picture_size, workers), clock),
            "theirs": speed(bare_network(sizes.pictures, sizes.picture_size), clock),
        }
        rounds = interleaved(sides, sizes.rounds)
        found.append(
            Row(
                question=f"features of photographs, {BACKBONE}, {workers} workers",
                ours_name="extract_features.py",
                theirs_name="the network alone",
                unit="images/s",
                ours=rounds["ours"],
                theirs=rounds["theirs"],
                required=AT_LEAST if workers else None,
            )
        )
    return found


def extracting(scratch: Path, image_size: int, workers: int) -> Callable[[], int]:
    """A function that makes a store of the pictures, and says how many there are."""
    folder = scratch / "pictures"
    ids = files_below(folder)
    backbone = VisualBackbone(BACKBONE, "grid", "none", seed=1)
    shape = backbone.row_shape(image_size)
    description = features_description(backbone, image_size)
    batches = extract_features.unfinished_batches([False] * len(ids), BATCH)
    pictures = PictureBatches(folder, ids, batches, image_size)
    numbers = itertools.count()

    def run() -> int:
        path = scratch / f"{workers}-{next(numbers)}.h5"
        writer = ImageStoreWriter(path, ids, shape, "float16", description)
        broken = extract_features.fill(writer, backbone, pictures, workers, torch.device("cpu"))
        assert not broken
        return writer.finish()

    return run


def bare_network(count: int, image_size: int) -> Callable[[], int]:
    """A function that runs torchvision's network on as many pictures, in the same batches."""
    network = torchvision.models.get_model(BACKBONE, weights=None).eval()
    pixels = torch.randn(count, 3, image_size, image_size).split(BATCH)

    @torch.no_grad()
    def run() -> int:
        return sum(len(network(batch)) for batch in pixels)

    return run


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
