"""Trained models that read images, with an image store, ready to be asked about sentences.

Letters: N sentences of a data set, L of them that are asked about.
"""

import argparse
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FairseqDataset, LanguagePairDataset

from ..command_line import positive
from ..data.joined_stores import Images, open_stores
from ..data.multimodal_dataset import MultimodalDataset
from ..problems import noted
from ..trained_models import length_problems, load_models


class ImageReader(NamedTuple):
    """One model or an ensemble, and the images that it may see."""

    models: List[torch.nn.Module]
    task: Any
    """the fairseq task that the models were trained with"""
    images: Images
    device: torch.device

    def length_problems(
        self, pairs: FairseqDataset, lines: np.ndarray, max_tokens: int, name: str
    ) -> List[str]:
        """What of these sentences is too long, one line each.

        Args:
            pairs: N sentence pairs.
            lines: (L,) the sentences.
            max_tokens: what goes into one mini-batch.
            name: what to call the sentences.
        """
        sizes = pairs.sizes[lines]
        return length_problems(self.models, self.task, sizes, lines, max_tokens, name)

    def samples(
        self, pairs: LanguagePairDataset, rows: np.ndarray, lines: np.ndarray, max_tokens: int
    ) -> Iterator[Dict[str, Any]]:
        """Mini-batches on the models' device, sentences of like length together.

        Which sentences are neighbours does not depend on their images.

        Args:
            pairs: N sentence pairs.
            rows: (N,) int64, the row of each sentence's image in the store, or `NO_IMAGE`.
            lines: (L,) the sentences to take.
            max_tokens: per mini-batch.
        """
        dataset = MultimodalDataset(pairs, self.images, rows)
        order = lines[np.lexsort(dataset.sizes[lines].T)]
        for batch in dataset.batch_by_size(order, max_tokens=max_tokens):
            sample = dataset.collater([dataset[line] for line in batch])
            yield utils.apply_to_sample(lambda x: x.to(self.device), sample)


def load_image_reader(checkpoint: str, data: str, image_h5: str, cpu: bool) -> ImageReader:
    """Load checkpoints of the task ``multimodal_translation`` and open their images.

    Args:
        checkpoint: its file; several, separated by colons, are an ensemble.
        data: folder with the dictionaries, or several, separated by colons, of which the first has them.
        image_h5: image store, or several, separated by colons.
        cpu: leave a GPU alone.

    Raises:
        ValueError: all that is wrong, one line each: checkpoints or stores that cannot be used, no
            model that reads images, images of another kind than the training's.
    """
    problems: List[str] = []
    images = models = None
    with noted(problems):
        images = open_stores(utils.split_paths(image_h5))
    with noted(problems):
        models, task = load_models(checkpoint, data)
    if models is not None and not task.trained_images:
        problems.append(f"{checkpoint} reads no images: it was trained without any")
    elif models is not None and images is not None:
        with noted(problems):
            task.trained_images.check(images)
    if problems:
        raise ValueError("\n".join(problems))
    device = torch.device("cpu" if cpu or not torch.cuda.is_available() else "cuda")
    return ImageReader([model.eval().to(device) for model in models], task, images, device)


def first_folder(data: str) -> str:
    """That of DATA in which the splits lie that are translated, as for fairseq-generate."""
    return utils.split_paths(data)[0]


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """What the command lines have in common that load such models."""
    add = parser.add_argument
    add("data", metavar="DATA", help="binarised folder with the dictionaries")
    add(
        "--path",
        metavar="CKPT[:CKPT...]",
        required=True,
        help="the model; several, separated by colons, are an ensemble",
    )
    add("--image-h5", metavar="FILE[:FILE...]", required=True, help="image store")
    add(
        "--max-tokens",
        metavar="N",
        type=positive,
        default=4000,
        help="tokens in one mini-batch (default: %(default)s)",
    )
    add("--cpu", action="store_true", help="do not use a GPU")
    add("--json", metavar="FILE", type=Path, help="also write the figures here, for programs")
