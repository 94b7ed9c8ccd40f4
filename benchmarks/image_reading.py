"""Reading random mini-batches from an image store, beside NumPy's memory map of the same array.

    python benchmarks/image_reading.py [--quick] [--json FILE]

Without workers the time is this process's; with workers it is that on the wall, and holds for a
machine that has nothing else to do.
"""

import sys
from pathlib import Path
from typing import Callable, List

if __name__ == "__main__":
    import start  # noqa: F401

import numpy as np
import torch
from made_up_images import write_store
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed, wall_clock
from rows import Bound, Found, Required, Row
from sizes import Sizes
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from caf_dkd_plugin.data.image_store import ImageStore

AT_LEAST = Required(Bound.AT_LEAST, 0.8)
WORKERS = (0, 1, 2)


class Batches(Dataset):
    """Mini-batches of rows.

    Args:
        read: gives the rows (n, R, D) with n numbers.
        batches: the numbers of each.
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], batches: List[np.ndarray]):
        self.read = read
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> Tensor:
        return torch.from_numpy(self.read(self.batches[place]))


class MemoryMap:
    """What a user would write instead: the array in a .npy file, mapped where it is first read."""

    def __init__(self, path: Path):
        self.path = path
        self._rows = None

    def read(self, rows: np.ndarray) -> np.ndarray:
        if self._rows is None:
            self._rows = np.load(self.path, mmap_mode="r")
        return self._rows[rows]


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each number of workers."""
    store = ImageStore(
        write_store(scratch / "images.h5", sizes.images, sizes.regions, sizes.features)
    )
    shape = (sizes.images, sizes.regions, sizes.features)
    copied = np.lib.format.open_memmap(scratch / "images.npy", "w+", store.dtype, shape)
    for start in range(0, sizes.images, sizes.read_batch):
        rows = range(start, min(start + sizes.read_batch, sizes.images))
        copied[rows] = store.read(rows)
    copied.flush()
    order = np.random.default_rng(1).permutation(sizes.images)
    batches = np.split(order, range(sizes.read_batch, sizes.images, sizes.read_batch))
    readers = {"ours": store, "theirs": MemoryMap(scratch / "images.npy")}
    found = []
    for workers in WORKERS:
        sides = {
            side: speed(
                reading(Batches(reader.read, batches), workers),
                wall_clock if workers else cpu_clock,
            )
            for side, reader in readers.items()
        }
        rounds = interleaved(sides, sizes.rounds)
        found.append(
            Row(
                question=f"random batches of {sizes.read_batch} from {sizes.images} images, "
                f"{workers} workers",
                ours_name="image store",
                theirs_name="memory map",
                unit="images/s",
                ours=rounds["ours"],
                theirs=rounds["theirs"],
                required=AT_LEAST,
            )
        )
    return found


def reading(dataset: Batches, workers: int) -> Callable[[], int]:
    """A function that reads all mini-batches and says how many images they had.

    The workers start when it is called first, and stay.
    """
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: sum(len(rows) for rows in loader)


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
