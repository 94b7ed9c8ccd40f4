"""The images of the lines that fairseq-interactive reads.

Letters: B sentences, R image regions, D feature size.
"""

import atexit
import logging
from collections import deque
from typing import Any, Dict

import torch
from fairseq.data import LanguagePairDataset
from torch import Tensor

from .image_ids import ImageIdsError, read_image_ids
from .image_store import ImageStore
from .multimodal_dataset import MultimodalDataset
from .split_images import SplitImagesError, image_rows, with_remedy

logger = logging.getLogger(__name__)


class ImageList:
    """Follows the lines of the input through buffers and mini-batches.

    fairseq-interactive reads its input buffer by buffer and passes nothing but the tokens of a
    mini-batch on to the task. So the lines are counted here, and each mini-batch that is collated
    waits until its tokens come back.

    Args:
        path: text file with the image id of each input line, an empty line for none.
        store: the image store.
        missing_is_error: whether an id that is not in the store is an error; else it is masked.

    Raises:
        ValueError: the file cannot be read, or names images that the store lacks.
    """

    def __init__(self, path: str, store: ImageStore, missing_is_error: bool):
        self._path = path
        self._store = store
        try:
            self._ids = read_image_ids(path)
        except (OSError, ImageIdsError) as error:
            raise ValueError(f"--image-list cannot be read: {error}") from error
        self._rows, absent = image_rows(store, self._ids, path)
        if absent and missing_is_error:
            raise SplitImagesError(with_remedy(absent))
        for line in absent:
            logger.warning(f"{line}; masked")
        self._lines_read = 0
        self._collated: deque = deque()
        atexit.register(self._warn_of_unread_lines)

    def dataset(self, pairs: LanguagePairDataset) -> MultimodalDataset:
        """The next lines of the input, with their images.

        Raises:
            ValueError: the list has no line for the last of them.
        """
        first, self._lines_read = self._lines_read, self._lines_read + len(pairs)
        if self._lines_read > len(self._ids):
            raise ValueError(
                f"--image-list {self._path} has {len(self._ids)} lines, but the input has at least "
                f"{self._lines_read}. There must be one line for each input line, an empty one "
                "where there is no image."
            )
        rows = self._rows[first : self._lines_read]
        return MultimodalDataset(pairs, self._store, rows, self._collated.append)

    def put_back(self, sample: Dict[str, Any], like: Tensor) -> Dict[str, Any]:
        """Give a mini-batch the images that were collated for its tokens.

        Args:
            sample: what fairseq-interactive built from the tokens.
            like: a parameter of the model, whose device and type the features get.

        Returns:
            `sample` with ``image_features`` (B, R, D) and ``image_mask`` (B, R) in its
            ``net_input``.

        Raises:
            RuntimeError: these are not the tokens that were collated first.
        """
        made = self._collated.popleft()["net_input"]
        tokens = sample["net_input"]["src_tokens"]
        if not torch.equal(made["src_tokens"], tokens.cpu()):
            raise RuntimeError(
                "the mini-batches of fairseq-interactive came in another order than they were "
                "made; their images cannot be told"
            )
        images = {
            "image_features": made["image_features"].to(like),
            "image_mask": made["image_mask"].to(like.device),
        }
        return {**sample, "net_input": {**sample["net_input"], **images}}

    def _warn_of_unread_lines(self) -> None:
        if self._lines_read < len(self._ids):
            logger.warning(
                f"--image-list {self._path} has {len(self._ids)} lines, but the input had only "
                f"{self._lines_read}: are they in step?"
            )
