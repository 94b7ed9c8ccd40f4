"""Sentence pairs with their images: features, or pixels for a backbone inside the model.

Letters: B sentences, R image regions, D feature size, H and W pixels.
"""

from typing import Any, Callable, Dict, Optional

import numpy as np
import torch
from fairseq.data import LanguagePairDataset
from torch import Tensor

from .complete_dataset import CompleteDataset
from .image_store import FEATURES
from .joined_stores import Images
from .split_images import NO_IMAGE


class MultimodalDataset(CompleteDataset):
    """A language-pair data set whose mini-batches also hold images.

    Args:
        pairs: the sentence pairs.
        store: the image store, or what reads like one.
        rows: (N,) int64, for each sentence the row of its image in the store, or `NO_IMAGE`.
        on_batch: called with each mini-batch that :meth:`collater` makes. For fairseq-interactive,
            which passes nothing but the tokens on to the task.

    Raises:
        ValueError: as many rows as sentences are needed.
    """

    def __init__(
        self,
        pairs: LanguagePairDataset,
        store: Images,
        rows: np.ndarray,
        on_batch: Optional[Callable[[Dict[str, Any]], None]] = None,
    ):
        super().__init__(pairs)
        if len(rows) != len(pairs):
            raise ValueError(f"{len(rows)} rows of images were given for {len(pairs)} sentences")
        self.store = store
        self.rows = rows
        self.on_batch = on_batch

    def collater(self, samples, pad_to_length=None):
        """Merge samples into a mini-batch.

        Returns:
            what :meth:`LanguagePairDataset.collater` documents and, rows in the order of
            ``src_tokens``, either

            - ``net_input["image_features"]`` (B, R, D) float32, zero where there is no image,
            - ``net_input["image_mask"]`` (B, R) bool, True where the region is real,

            or, from a store of pixels,

            - ``net_input["images"]`` (B, 3, H, W) uint8, RGB, black where there is no image,
            - ``net_input["image_mask"]`` (B, 1) bool, True where the image is real.

            The keys are always there, also when no sentence of the batch has an image.
        """
        batch = self.dataset.collater(samples, pad_to_length=pad_to_length)
        if not batch:
            return batch
        rows = self.rows[batch["id"].numpy()]  # fairseq has sorted the batch: go by id
        real = rows != NO_IMAGE  # (B,)
        as_features = self.store.kind == FEATURES
        values = np.zeros(
            (len(rows), *self.store.shape[1:]), dtype=np.float32 if as_features else np.uint8
        )
        values[real] = self.store.read(rows[real])
        mask = torch.from_numpy(real).unsqueeze(1)  # (B, 1)
        if as_features:
            images = {
                "image_features": torch.from_numpy(values),
                "image_mask": mask.repeat(1, values.shape[1]),
            }
        else:
            pixels = torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()
            images = {"images": pixels, "image_mask": mask}
        batch["net_input"].update(images)
        if self.on_batch is not None:
            self.on_batch(batch)
        return batch


def without_images(net_input: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """``net_input`` as a text-only model takes it."""
    return {name: x for name, x in net_input.items() if not name.startswith("image")}
