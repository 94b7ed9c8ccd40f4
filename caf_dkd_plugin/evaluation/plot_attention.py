"""Draw where in the photograph a model looks at each word of chosen sentences.

    python -m caf_dkd_plugin plot-attention data-bin --path student/checkpoint_best.pt \\
        --gen-subset test --sentences 0 17 204 --image-h5 images.h5 --images photos \\
        --output attention.png

Letters: S source tokens, W words, R regions of an image.
"""

import argparse
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..command_line import destination_problems, not_negative, positive
from ..data.image_store import FEATURES, IMAGES
from ..data.multimodal_dataset import MultimodalDataset
from ..data.pictures import load_picture
from ..data.split_files import split_files
from ..data.split_images import image_rows, read_split_ids
from ..problems import noted, print_problems
from ..whole_file import whole_file
from .attention_plot import PANEL_SIZE, heading, plot_attention, stack, whole_words
from .beam_search import joining, translate
from .image_reader import ImageReader, first_folder, load_image_reader

WORDS_IN_A_ROW = 6
"""panels beside the photograph; more words go into more rows, each with the photograph"""
UNORDERED = "regions"
"""the layer, in a store's description, of regions that need not be a grid"""


class Chosen(NamedTuple):
    """Sentences to draw."""

    dataset: MultimodalDataset
    """the whole split"""
    pictures: Dict[int, Image.Image]
    """the picture of each of them, by its number in the split, counted from zero"""
    grid: Tuple[int, int]
    """(rows, columns) of the regions"""


class Looked(NamedTuple):
    """What a model made of a sentence."""

    words: List[str]
    attention: np.ndarray
    """(W, R), mean of the heads; of a word in several pieces, the mean of its pieces"""
    translation: str


def choose(reader: ImageReader, args: argparse.Namespace) -> Chosen:
    """Find the sentences and their pictures.

    Raises:
        ValueError: what is wrong with any of them, or with the regions, one line each.
    """
    problems: List[str] = []
    grid = None
    if len(reader.models) > 1:
        problems.append(f"--path {args.path} is {len(reader.models)} models: draw one at a time")
    else:
        with noted(problems):
            grid = find_grid(reader, args.grid)
    split = args.gen_subset
    files = split_files(reader.task.cfg, first_folder(args.data), False)
    ids: List[str] = []
    with noted(problems):
        ids = read_split_ids(files, split)
    pictures = {}
    for number in args.sentences if ids else ():
        with noted(problems):
            pictures[number] = find_picture(reader, args, ids, number)
    if problems:
        raise ValueError("\n".join(problems))
    rows, _ = image_rows(reader.images, ids, split)
    reader.task.load_dataset(split)
    pairs = reader.task.dataset(split)
    empty = [str(number) for number in pictures if pairs.src.sizes[number] == 1]  # </s>
    if empty:
        raise ValueError(f"--sentences {' '.join(empty)} of {split}: the source has no words")
    dataset = MultimodalDataset(pairs, reader.images, rows)
    return Chosen(dataset, pictures, grid)


def find_grid(reader: ImageReader, given: Optional[Tuple[int, int]]) -> Tuple[int, int]:
    """Rows and columns of the regions to which a model attends.

    Args:
        reader: the model and its images.
        given: what they are, where it is known.

    Raises:
        ValueError: there is one region, or it cannot be told where in the picture they are.
    """
    images = reader.images
    if images.kind == FEATURES:
        regions = images.shape[1]
    else:
        regions = reader.models[0].encoder.backbone.row_shape(images.shape[1])[0]
    if regions == 1:
        raise ValueError(
            f"the model reads one vector of each image of {images.path} (R = 1): a single vector has no "
            "regions to look at. Train with a grid of features, such as extract_features.py makes."
        )
    if given is not None:
        if math.prod(given) != regions:
            raise ValueError(
                f"--grid {given[0]} {given[1]} has {math.prod(given)} regions, the images of "
                f"{images.path} have {regions}"
            )
        return given
    side = math.isqrt(regions)
    if side * side != regions or images.description.layer == UNORDERED:
        raise ValueError(
            f"the {regions} regions of {images.path} are not known to be a square grid. If they are a "
            "grid, row by row, say which: --grid ROWS COLUMNS."
        )
    return side, side


def find_picture(
    reader: ImageReader, args: argparse.Namespace, ids: List[str], number: int
) -> Image.Image:
    """The photograph of a sentence, or its pixels in the store.

    Raises:
        ValueError: there is no such sentence, or it has no image that can be drawn.
    """
    split, images = args.gen_subset, reader.images
    if number >= len(ids):
        raise ValueError(
            f"--sentences {number}: {split} of {args.data} has {len(ids)} sentences, 0 to "
            f"{len(ids) - 1}"
        )
    name = ids[number]
    if not name:
        raise ValueError(f"--sentences {number} has no image, on purpose ({split}.images)")
    row = images.row_of(name)
    if row is None:
        raise ValueError(f"--sentences {number}: its image {name} is not in {images.path}")
    if args.images is None:
        if images.kind != IMAGES:
            raise ValueError(
                f"--sentences {number}: {images.path} has features of {name}, but not the picture: say "
                "with --images where the photographs are"
            )
        return Image.fromarray(images.read([row])[0])
    path = args.images / name
    if not path.is_file():
        raise ValueError(f"--sentences {number}: there is no photograph {path}")
    try:
        return Image.fromarray(load_picture(path, PANEL_SIZE))
    except Exception as error:  # Pillow's readers raise whatever a bad file leads to
        raise ValueError(
            f"--sentences {number}: {path} is not a readable picture: {error}"
        ) from error


@torch.no_grad()
def look(reader: ImageReader, dataset: MultimodalDataset, number: int, beam: int) -> Looked:
    """Let a model read and translate a sentence of a data set."""
    task, [model] = reader.task, reader.models
    sample = dataset.collater([dataset[number]])
    net_input = {name: x for name, x in sample["net_input"].items() if name != "prev_output_tokens"}
    maps = model.encoder(**net_input, need_maps=True)["fusion_map"]  # (1, h, S, R)
    attention = maps[0].mean(dim=0).numpy()  # (S, R)
    tokens = [task.source_dictionary[token] for token in net_input["src_tokens"][0]]
    words, attention = whole_words(tokens[:-1], attention[:-1])  # without the end of the sentence
    remove_bpe = joining(task.target_dictionary)
    [translation] = translate(task, [model], [sample], beam, remove_bpe)
    return Looked(words, attention, translation)


def draw(looked: Looked, picture: Image.Image, grid: Tuple[int, int], title: str) -> Image.Image:
    """The picture with the attention of every word, below a title."""
    rows = [
        plot_attention(
            picture,
            looked.words,
            looked.attention,
            range(first, min(first + WORDS_IN_A_ROW, len(looked.words))),
            grid,
        )
        for first in range(0, len(looked.words), WORDS_IN_A_ROW)
    ]
    return stack([heading(title, rows[0].width), *rows])


def draw_all(args: argparse.Namespace) -> Tuple[Image.Image, List[str]]:
    """The whole picture, and a line of text about each sentence in it.

    Raises:
        ValueError: everything that is wrong, one line each.
    """
    problems = destination_problems("--output", args.output)
    if args.images is not None and not args.images.is_dir():
        problems.append(f"--images {args.images} is no folder")
    reader = chosen = None
    with noted(problems):
        reader = load_image_reader(args.path, args.data, args.image_h5, cpu=True)
    if reader is not None:
        with noted(problems):
            chosen = choose(reader, args)
    if problems:
        raise ValueError("\n".join(problems))
    sheets, lines = [], []
    for number in tqdm(args.sentences, unit="sentence", leave=False, disable=None):
        looked = look(reader, chosen.dataset, number, args.beam)
        lines.append(
            f"{args.gen_subset} {number}: {' '.join(looked.words)} -> {looked.translation}"
        )
        title = f"{args.gen_subset} {number}: {looked.translation}"
        sheets.append(draw(looked, chosen.pictures[number], chosen.grid, title))
    return stack(sheets), lines


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin plot-attention", description=__doc__.partition("\n\n")[0]
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="binarised folder with the split and its list of images")
    add("--path", metavar="CKPT", required=True, help="the model")
    add("--image-h5", metavar="FILE[:FILE...]", required=True, help="image store")
    add("--gen-subset", metavar="SPLIT", default="test", help="where the sentences are")
    add(
        "--sentences",
        metavar="N",
        type=not_negative,
        nargs="+",
        required=True,
        help="their numbers, counted from zero as fairseq-generate does",
    )
    add(
        "--images",
        metavar="DIR",
        type=Path,
        help="folder of the photographs; not needed with a store of pixels",
    )
    add("--output", metavar="FILE", type=Path, required=True, help="the PNG to write")
    add(
        "--grid",
        metavar=("ROWS", "COLUMNS"),
        type=positive,
        nargs=2,
        help="how the regions lie, row by row, if not in a square",
    )
    add("--beam", metavar="N", type=positive, default=5, help="width of the beam")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    try:
        sheet, lines = draw_all(args)
    except (ValueError, OSError) as error:
        print_problems(error)
        return 1
    with whole_file(args.output) as partial:
        sheet.save(partial, format="PNG")
    print(*lines, sep="\n")
    print(f"wrote {args.output}: means over the heads, and over the pieces of a word")
    return 0
