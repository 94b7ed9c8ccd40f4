"""Read the features of a folder of pictures with a CNN and write them into one image store.

    python preprocess/extract_features.py --images DIR --output FILE.h5

Every file in DIR and its sub-folders counts as a picture, except hidden ones (names beginning with
a dot) and the store itself; its id is its path below DIR. Each picture is used whole: made square
without cropping. Killed and started again, the run goes on where it was. Until it is finished the
store is called FILE.h5.partial. With --raw the store holds the pixels, for a CNN that runs inside the
model; with --shard I/N it holds the I-th of N parts, which --image-h5 reads together.
"""

import argparse
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from picture_batches import Batch, PictureBatches

from caf_dkd_plugin.command_line import not_negative, positive, usable_device
from caf_dkd_plugin.data.files_below import files_below
from caf_dkd_plugin.data.image_ids import ImageIdsError, in_short, read_image_ids
from caf_dkd_plugin.data.image_store import (
    Description,
    ImageStore,
    ImageStoreError,
    partial_path,
)
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter, files_of_store
from caf_dkd_plugin.data.one_writer import OtherWriterError
from caf_dkd_plugin.data.photographs import features_description, pixels_description
from caf_dkd_plugin.modules.visual_backbone import (
    IMAGENET,
    LAYERS,
    RANDOM,
    BackboneError,
    VisualBackbone,
)


class ExtractionError(ValueError):
    """The run cannot begin, or cannot be finished; the message says why and what to do."""


def list_pictures(folder: Path, output: Path) -> List[str]:
    """The paths of all files below `folder` that are not hidden, relative and sorted.

    The store at `output`, finished or not, is none of them.
    """
    own, place = {path.name for path in files_of_store(output)}, output.parent.resolve()
    return [
        name
        for name in files_below(folder)
        if os.path.basename(name) not in own or (folder / name).parent.resolve() != place
    ]


def chosen_ids(folder: Path, lists: Sequence[Path], skip_broken: bool, output: Path) -> List[str]:
    """The ids that the store shall have: those of the lists, or else every picture of the folder.

    Raises:
        ExtractionError: there are none, or the lists name files that do not exist. With `skip_broken`
            such files count as broken.
    """
    if not folder.is_dir():
        raise ExtractionError(f"there is no folder {folder}; give the pictures' folder as --images")
    if lists:
        named = dict.fromkeys(name for path in lists for name in read_image_ids(path) if name)
        if not named:
            raise ExtractionError(f"no image is named in {', '.join(map(str, lists))}")
        absent = [name for name in named if not os.path.exists(folder / name)]
        if absent and not skip_broken:
            raise ExtractionError(
                f"{len(absent)} of the {len(named)} listed pictures are not in {folder}: "
                f"{in_short(absent)}. Give the folder that they are in as --images, or leave them "
                "out with --skip-broken."
            )
        return list(named)
    ids = list_pictures(folder, output)
    if not ids:
        raise ExtractionError(f"there are no files in {folder}")
    return ids


class Shard(NamedTuple):
    """Part `number` of `count` parts, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From "I/N", 1 <= I <= N."""
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N, such as 1/4")
        if not 1 <= int(number) <= int(count):
            raise argparse.ArgumentTypeError(f"there is no part {number} of {count}")
        return cls(int(number), int(count))

    def of(self, ids: List[str]) -> List[str]:
        """The ids of this part: neighbours, as many as in the other parts, give or take one.

        Raises:
            ExtractionError: there are more parts than ids.
        """
        if self.count > len(ids):
            raise ExtractionError(f"{len(ids)} images cannot be divided into {self.count} parts")
        first, end = (len(ids) * k // self.count for k in (self.number - 1, self.number))
        return ids[first:end]


def unfinished_batches(done: Sequence[bool], batch_size: int) -> List[List[int]]:
    """The batches with a row that is not done.

    Batch k is always rows k * batch_size and the following: what a row's neighbours in its batch
    are does not depend on where an earlier run stopped, so neither does its last bit.
    """
    batches = [
        list(range(start, min(start + batch_size, len(done))))
        for start in range(0, len(done), batch_size)
    ]
    return [rows for rows in batches if not all(done[row] for row in rows)]


@torch.no_grad()
def fill(
    writer: ImageStoreWriter,
    backbone: Optional[VisualBackbone],
    pictures: PictureBatches,
    workers: int,
    device: torch.device,
) -> Dict[int, str]:
    """Write the rows of all of `pictures`' batches: pixels, or features where there is a backbone.

    Returns:
        the rows that could not be written because their file is broken, and why.

    Raises:
        ExtractionError: the machine cannot read a file.
    """
    broken: Dict[int, str] = {}
    loader = DataLoader(pictures, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    done = len(pictures.ids) - sum(map(len, pictures.batches))
    with tqdm(total=len(pictures.ids), initial=done, unit="img", desc=writer.path.name) as progress:
        for rows, pixels, failures, failure in loader:
            if failure is not None:
                raise ExtractionError(
                    f"{failure}. The picture need not be broken, so it is not left out. Run again, "
                    "which goes on from here."
                )
            values = pixels
            if backbone is not None:
                batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)  # (n, 3, S, S)
                values = backbone(batch).float().cpu().numpy()  # (n, R, D)
            good = [place for place, row in enumerate(rows) if row not in failures]
            if good:
                writer.write([rows[place] for place in good], values[good])
            broken.update(failures)
            progress.update(len(rows))
    return broken


def _as_it_is(batch: Batch) -> Batch:
    return batch


def readable(folder: Path, image_id: str, image_size: int) -> bool:
    """Whether the file is a picture that can be read.

    Raises:
        ExtractionError: the machine cannot read it.
    """
    batch = PictureBatches(folder, [image_id], [[0]], image_size)[0]
    if batch.failure is not None:
        raise ExtractionError(f"{batch.failure}. Run again.")
    return not batch.broken


class Rows(NamedTuple):
    """What a run writes for each picture."""

    shape: Tuple[int, ...]
    dtype: str
    description: Description
    backbone: Optional[VisualBackbone]
    """None: the pixels themselves"""


def rows_to_write(args: argparse.Namespace) -> Rows:
    """What the command line asks for."""
    if args.raw:
        shape = (args.image_size, args.image_size, 3)
        return Rows(shape, "uint8", pixels_description(args.image_size), None)
    backbone = VisualBackbone(args.backbone, args.layer, args.weights, args.seed)
    shape = backbone.row_shape(args.image_size)
    return Rows(shape, args.dtype, features_description(backbone, args.image_size), backbone)


def extract(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done."""
    started = time.monotonic()
    ids = args.shard.of(chosen_ids(args.images, args.list, args.skip_broken, args.output))
    wanted = rows_to_write(args)
    if args.output.exists() and not args.overwrite:
        _accept_finished(args, ids, wanted)
        return
    args.output.parent.mkdir(parents=True, exist_ok=True)
    writer = ImageStoreWriter(
        args.output, ids, wanted.shape, wanted.dtype, wanted.description, overwrite=args.overwrite
    )
    batches = unfinished_batches(writer.rows_done, args.batch_size)
    missing = sum(map(len, batches))
    if missing < len(ids):
        print(f"going on: {len(ids) - missing} of {len(ids)} images are done")
        done = [ids[row] for row in np.flatnonzero(writer.rows_done)]
        _tell_of_newer(args.images, done, partial_path(args.output))
    pictures = PictureBatches(args.images, ids, batches, args.image_size)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    backbone = wanted.backbone.to(device) if wanted.backbone is not None else None
    broken = fill(writer, backbone, pictures, args.workers, device)
    if broken:
        listed = in_short([f"{ids[row]} ({broken[row]})" for row in sorted(broken)])
        if not args.skip_broken:
            raise ExtractionError(
                f"{len(broken)} of {len(ids)} files are not readable pictures: {listed}. "
                f"The others are done, but {args.output} stays unfinished. Repair these files and "
                "run again, which goes on from here, or leave them out with --skip-broken."
            )
        print(f"left out {len(broken)} of {len(ids)} files, not readable as pictures: {listed}")
    count = writer.finish(skip_missing=args.skip_broken)
    seconds = time.monotonic() - started
    reader = "pixels"
    if backbone is not None:
        reader = f"{backbone.name} ({backbone.weights_in_words}) on {device.type}"
    print(
        f"wrote {args.output}: {count} images, {' x '.join(map(str, wanted.shape))} {wanted.dtype}, "
        f"{args.output.stat().st_size / 1e6:.1f} MB; {reader}, "
        f"{missing} images in {seconds:.0f} s ({missing / seconds:.1f} a second)"
    )


def _accept_finished(args, ids: List[str], wanted: Rows) -> None:
    """Say that the finished store is the one that is wanted, or raise."""
    store = ImageStore(args.output)
    if args.skip_broken:
        ids = [
            name for name in ids if name in store or readable(args.images, name, args.image_size)
        ]
    found = store.differences(ids, wanted.shape, wanted.dtype, wanted.description)
    if found:
        raise ExtractionError(
            f"{args.output} exists and was written otherwise: {'; '.join(found)}. Write to another "
            "file, or replace this one with --overwrite."
        )
    print(f"{args.output} is already finished: {len(store)} images. Nothing to do.")
    _tell_of_newer(args.images, ids, args.output)


def _tell_of_newer(folder: Path, ids: Sequence[str], store: Path) -> None:
    """Pictures are known by their names: say which may be others than those that were read."""
    written = store.stat().st_mtime
    newer = [
        name
        for name in ids
        if (folder / name).exists() and (folder / name).stat().st_mtime > written
    ]
    if newer:
        print(
            f"note: {len(newer)} pictures are newer than {store}: {in_short(newer)}. If they are "
            "others than those that were read, delete it and run again."
        )


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--images", metavar="DIR", type=Path, required=True, help="folder of the pictures")
    add("--output", metavar="FILE", type=Path, required=True, help="the image store to write")
    add(
        "--list",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[],
        help="read only the pictures named in these lists, such as DATA/train.images",
    )
    add("--backbone", default="resnet18", help="any convolutional classifier of torchvision")
    add(
        "--weights",
        default=IMAGENET,
        help=f"{IMAGENET} (torchvision's download), {RANDOM} (random) or the file of a state dict",
    )
    add("--seed", type=int, default=1, help=f"of the random weights of --weights {RANDOM}")
    add("--layer", choices=LAYERS, default="grid", help="the last feature map, or its mean")
    add("--image-size", type=positive, default=224, help="side of the square each becomes")
    add("--batch-size", type=positive, default=32, help="pictures in one pass")
    add(
        "--workers",
        type=not_negative,
        default=min(4, os.cpu_count() or 1),
        help="processes that read pictures; 0 reads them in this one",
    )
    add(
        "--device",
        type=usable_device,
        help="where the network runs, such as cpu or cuda:1 (default: GPU if any)",
    )
    add("--dtype", choices=("float16", "float32"), default="float16", help="of the features")
    add("--skip-broken", action="store_true", help="leave out files that are no readable picture")
    add("--overwrite", action="store_true", help="replace a store with other settings")
    add(
        "--raw",
        action="store_true",
        help="write the pixels, for a CNN inside the model, and read no features",
    )
    add(
        "--shard",
        metavar="I/N",
        type=Shard.parse,
        default="1/1",
        help="only the I-th of N parts of the pictures, for N machines",
    )
    args = parser.parse_args(argv)
    if args.raw:
        _refuse_features_options(parser, args)
    return args


def _refuse_features_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """With --raw nothing reads features, so an option about them was meant otherwise."""
    names = ("backbone", "weights", "seed", "layer", "device", "dtype")
    given = [f"--{name}" for name in names if getattr(args, name) != parser.get_default(name)]
    if given:
        parser.error(
            f"--raw writes pixels, so {', '.join(given)} would have no effect: leave it out here, "
            "and give the backbone to fairseq-train"
        )


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        extract(parse_args(argv))
    except (
        BackboneError,
        ExtractionError,
        ImageIdsError,
        ImageStoreError,
        OSError,
        OtherWriterError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
