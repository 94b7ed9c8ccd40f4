"""Put image features that other programs have made into one image store.

    python preprocess/convert_features.py --features train.npy test.npy --ids train.txt test.txt \\
        --backbone resnet50 --weights IMAGENET1K_V1 --output FILE.h5

Row k of a features file belongs to the image that line k of its list names. An empty line says that
the row belongs to no image: it is left out, and how many were is said. An image may be named many
times, with equal rows; it is stored once. What a features file can be:

* .npy: an array;
* .npz, .h5, .hdf5: an array, chosen with --key where there are several;
* .pth, .pt: a tensor, a list of tensors, or a dictionary of them (--key);
* without --ids: a folder of one ID.npy for each image, hidden files left out, or a .npz, .h5 or .pth
  with one array for each image, called by its id. With --ids a folder gives only the images named
  there.

No pickled object is ever loaded. Files are read a block at a time and need not fit into memory, but
for an array in a .npz (`python -m zipfile -e FILE.npz .` makes .npy files of it) and a .pth older
than PyTorch 1.6. Everything is read and checked once before anything is written, and until it is
finished the store is called FILE.h5.partial.

Letters: N images, R regions, D feature size, H and W rows and columns of a grid.
"""

import argparse
import hashlib
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.command_line import destination_problems, positive
from caf_dkd_plugin.data.feature_files import LOADERS, Source, open_source, reading
from caf_dkd_plugin.data.feature_layouts import (
    AUTO,
    GRIDS,
    LAYOUTS,
    FeaturesError,
    arrange,
)
from caf_dkd_plugin.data.image_ids import ImageIdsError, in_short
from caf_dkd_plugin.data.image_store import Description, ImageStore, ImageStoreError, check_ids
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.data.one_writer import OtherWriterError

_BLOCK_BYTES = 64 * 2**20


class Block(NamedTuple):
    """Neighbouring rows of a source, those without an id left out; n of them."""

    source: Source
    places: List[int]
    """their numbers in the source"""
    names: List[str]
    """their ids"""
    values: np.ndarray
    """(n, R, D) in the store's type"""
    finite: np.ndarray
    """(n,) bool: neither NaN nor infinite before they were made the store's type"""


class Conversion:
    """Sources that go into one store, looked through but not yet read.

    Args:
        sources: where the rows are.
        layout: see :func:`arrange`.
        grid: see :func:`arrange`.
        dtype: of the store.

    Raises:
        FeaturesError: shapes that cannot be understood or differ, or no image at all.
    """

    def __init__(
        self,
        sources: List[Source],
        layout: str,
        grid: Optional[Tuple[int, int]],
        dtype: str,
    ):
        self.sources = sources
        self.dtype = np.dtype(dtype)
        self.arrangements, problems = [], []
        for source in sources:
            try:
                self.arrangements.append(arrange(source.shape, layout, grid, source.path))
            except FeaturesError as error:
                problems.append(str(error))
        shapes = {arrangement.row_shape for arrangement in self.arrangements}
        if len(shapes) > 1 and not problems:
            listed = zip(sources, self.arrangements)
            differ = "; ".join(f"{one.row_shape} in {source.path}" for source, one in listed)
            problems.append(f"the files do not have the same (R, D): {differ}")
        lines = Counter(name for source in sources for name in source.ids if name)
        if not lines:
            problems.append("no image is named: every line of the lists is empty")
        if problems:
            raise FeaturesError("\n".join(problems))
        self.ids = list(lines)
        """of the store, in the order in which they are first named"""
        self.repeated = {name for name, count in lines.items() if count > 1}
        self.row_shape = self.arrangements[0].row_shape
        """(R, D)"""

    @property
    def layer(self) -> str:
        """What the rows are, in the words of a store's description."""
        if self.row_shape[0] == 1:
            return "global"
        return "grid" if "H" in self.arrangements[0].sizes else "regions"

    def blocks(self, what: str) -> Iterator[Block]:
        """All rows that have an id, in order, a block at a time.

        Args:
            what: is done with them, for the progress bar.

        Raises:
            FeaturesError: a file that cannot be read.
        """
        size = 4 * int(np.prod(self.row_shape))
        step = max(1, _BLOCK_BYTES // size)
        total = sum(len(source.ids) for source in self.sources)
        with tqdm(total=total, unit="row", desc=what) as progress:
            for source, arrangement in zip(self.sources, self.arrangements):
                for start in range(0, len(source.ids), step):
                    stop = min(start + step, len(source.ids))
                    places = [row for row in range(start, stop) if source.ids[row]]
                    if places:
                        yield self._block(source, arrangement, places, start, stop)
                    progress.update(stop - start)

    def _block(self, source, arrangement, places, start, stop) -> Block:
        with reading(f"{source.path}, rows {start} to {stop - 1}"):
            values = source.read(start, stop)
        values = arrangement.regions(values[[place - start for place in places]])
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype, order="C")  # for the digest, too
        finite = np.isfinite(values).all(axis=(1, 2))
        return Block(source, places, [source.ids[place] for place in places], cast, finite)

    def check(self) -> None:
        """Read every row once.

        Raises:
            FeaturesError: NaN, infinite or too large values, or an image with different rows.
        """
        not_finite, too_large, differing = [], [], []
        first: Dict[str, Tuple[bytes, Source, int]] = {}
        for block in self.blocks("checking"):
            fits = np.isfinite(block.values).all(axis=(1, 2))
            for number, (place, name) in enumerate(zip(block.places, block.names)):
                where = block.source.place(place)
                if not block.finite[number]:
                    not_finite.append(where)
                elif not fits[number]:
                    too_large.append(where)
                if name in self.repeated:
                    digest = hashlib.sha256(block.values[number] + 0).digest()  # -0 becomes 0
                    known = first.setdefault(name, (digest, block.source, place))
                    if known[0] != digest:
                        differing.append(f"{where} and {known[1].place(known[2])}")
        reports = (
            (not_finite, "rows have NaN or infinite values", "Make these features again."),
            (too_large, f"rows have values too large for {self.dtype}", "Use --dtype float32."),
            (
                differing,
                "times an image has other features than where it was first named",
                "Are these the lists that the features were made from? If so, empty the lines of "
                "the rows that shall be left out.",
            ),
        )
        problems = [
            f"{len(places)} {what}: {in_short(places)}. {remedy}"
            for places, what, remedy in reports
            if places
        ]
        if problems:
            raise FeaturesError("\n".join(problems))

    def write(self, writer: ImageStoreWriter) -> int:
        """Write the store, every row anew; the number of its rows."""
        row_of = {name: row for row, name in enumerate(self.ids)}
        for block in self.blocks("writing"):
            writer.write([row_of[name] for name in block.names], block.values)
        return writer.finish()

    def differences_at_sight(self, path: Path, description: Description) -> List[str]:
        """What a finished store has otherwise than it would be written now, but for the values."""
        return ImageStore(path).differences(self.ids, self.row_shape, self.dtype.name, description)

    def changed_rows(self, path: Path) -> List[str]:
        """What values a finished store has otherwise."""
        store, changed = ImageStore(path), []
        for block in self.blocks("comparing"):
            there = store.read([store.row_of(name) for name in block.names])
            same = (there == block.values).all(axis=(1, 2))
            changed += [name for name, equal in zip(block.names, same) if not equal]
        return [f"{len(changed)} rows with other values: {in_short(changed)}"] if changed else []


def open_sources(args: argparse.Namespace) -> List[Source]:
    """The sources of the command line.

    Raises:
        FeaturesError: all that is wrong with any of them.
    """
    if args.grid and args.layout not in GRIDS:
        raise FeaturesError(
            f"--grid goes with --layout {', '.join(GRIDS)}: how the flat rows are to be unfolded"
        )
    if args.ids and len(args.ids) != len(args.features):
        raise FeaturesError(
            f"there are {len(args.features)} --features but {len(args.ids)} --ids; give a list for "
            "each, in the same order, or none where the files name the images themselves"
        )
    sources, problems = [], []
    for path, list_of_ids in zip(args.features, args.ids or [None] * len(args.features)):
        try:
            sources.append(open_source(path, list_of_ids, args.key))
        except (FeaturesError, ImageIdsError) as error:
            problems.append(str(error))
    if problems:
        raise FeaturesError("\n".join(problems))
    return sources


def convert(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done."""
    conversion = Conversion(open_sources(args), args.layout, args.grid, args.dtype)
    description = Description(
        backbone=args.backbone,
        layer=args.layer or conversion.layer,
        weights=args.weights,
        weights_sha256="",  # unknown, so never that of an extracted store
        preprocessing=args.preprocessing,
    )
    for source, arrangement in zip(conversion.sources, conversion.arrangements):
        left_out = source.ids.count("")
        print(
            f"{source.path}: {len(source.ids)} rows, {arrangement}"
            + (f"; {left_out} left out, whose line names no image" if left_out else "")
        )
    finished = args.output.exists() and not args.overwrite
    if finished:
        _refuse_another(args.output, conversion.differences_at_sight(args.output, description))
    else:
        check_ids(conversion.ids, args.output)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        problems = destination_problems("--output", args.output)
        if problems:
            raise FeaturesError("\n".join(problems))
    conversion.check()
    if finished:
        _refuse_another(args.output, conversion.changed_rows(args.output))
        count = len(conversion.ids)
        print(f"{args.output} is already finished: {count} images. Nothing to do.")
        return
    writer = ImageStoreWriter(
        args.output,
        conversion.ids,
        conversion.row_shape,
        args.dtype,
        description,
        overwrite=args.overwrite,
    )
    count = conversion.write(writer)
    regions, features = conversion.row_shape
    print(
        f"wrote {args.output}: {count} images, {regions} x {features} {args.dtype}, "
        f"{args.output.stat().st_size / 1e6:.1f} MB; {args.backbone} {description.layer} "
        f"({args.weights})"
    )


def _refuse_another(output: Path, found: List[str]) -> None:
    """Raise where a finished store has something otherwise."""
    if found:
        raise FeaturesError(
            f"{output} exists and was written otherwise: {'; '.join(found)}. Write to another file, "
            "or replace this one with --overwrite."
        )


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        epilog="layouts: " + "; ".join(f"{name}: {what}" for name, what in LAYOUTS.items()),
    )
    add = parser.add_argument
    add(
        "--features",
        metavar="FILE",
        type=Path,
        nargs="+",
        required=True,
        help=f"files ({', '.join(LOADERS)}) or folders of one ID.npy for each image",
    )
    add(
        "--ids",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="the image of each row, one id a line: a list for each of --features, such as "
        "DATA/train.images",
    )
    add("--output", metavar="FILE", type=Path, required=True, help="the image store to write")
    add("--key", metavar="NAME", help="the array to take, where a file holds several")
    add(
        "--layout",
        choices=(AUTO, *LAYOUTS),
        default=AUTO,
        help="the order of the arrays' axes (default: auto, where the shape leaves no doubt)",
    )
    add(
        "--grid",
        metavar=("H", "W"),
        type=positive,
        nargs=2,
        help="rows and columns of a grid that is stored flat, (N, H*W*D)",
    )
    add(
        "--dtype",
        choices=("float16", "float32"),
        default="float16",
        help="of the store (default: float16)",
    )
    add("--backbone", required=True, metavar="NAME", help="the network that made the features")
    add("--weights", required=True, metavar="NAME", help="its weights")
    add(
        "--layer",
        metavar="NAME",
        help="where in the network they were read (default: global, grid or regions, by --layout)",
    )
    add(
        "--preprocessing",
        metavar="TEXT",
        default="unknown",
        help="what was done to the pictures before (default: unknown)",
    )
    add("--overwrite", action="store_true", help="replace a store that holds something else")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        convert(parse_args(argv))
    except (FeaturesError, ImageIdsError, ImageStoreError, OSError, OtherWriterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
