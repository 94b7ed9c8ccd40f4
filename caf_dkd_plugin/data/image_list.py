"""The images of the lines that fairseq-interactive reads.

Letters: B sentences, R image regions, D feature size.
"""

import atexit
import logging
import os
from collections import deque
from typing import Any, Dict, List, Optional

import torch
from fairseq.data import LanguagePairDataset
from torch import Tensor

from .image_ids import ImageIdsError, read_image_ids
from .image_store import Description
from .joined_stores import Images, JoinedStores
from .multimodal_dataset import MultimodalDataset
from .photographs import PhotographReader, Photographs
from .split_files import SplitError
from .split_images import image_rows

logger = logging.getLogger(__name__)


class ImageList:
    """Follows the lines of the input through buffers and mini-batches.

    fairseq-interactive reads its input buffer by buffer and passes nothing but the tokens of a
    mini-batch on to the task. So the lines are counted here, and each mini-batch that is collated
    waits until its tokens come back.

    Args:
        path: text file with the image of each input line: an id of the store or the path of a
            photograph; an empty line for none. What is an id of the store counts as that.
        store: the image store, or None where all images are photographs.
        description: of the images that the model was trained with, by which photographs are read;
            None where its checkpoint has none.
        weights_file: see :class:`.photographs.PhotographReader`.
        missing_is_error: whether an image that is neither is an error; else it is masked.

    Raises:
        ValueError: the file cannot be read, names images that are not there or no pictures, or
            photographs cannot be read as the model's images were.
    """

    def __init__(
        self,
        path: str,
        store: Optional[Images],
        description: Optional[Description],
        weights_file: Optional[str],
        missing_is_error: bool,
    ):
        self._path = path
        try:
            self._ids = read_image_ids(path)
        except (OSError, ImageIdsError) as error:
            raise ValueError(f"--image-list cannot be read: {error}") from error
        self.images = _with_photographs(path, self._ids, store, description, weights_file)
        self._rows, absent = image_rows(self.images, self._ids, path)
        if absent and missing_is_error:
            raise SplitError(
                [
                    f"{line}; nor are they files. Name ids of the store or paths of photographs, or "
                    "give --image-missing mask to translate these lines without an image."
                    for line in absent
                ]
            )
        for line in absent:
            logger.warning(f"{line}; masked")
        self._lines_read = 0
        self._collated: deque = deque()

    def dataset(self, pairs: LanguagePairDataset) -> MultimodalDataset:
        """The next lines of the input, with their images.

        Raises:
            ValueError: the list has no line for the last of them.
        """
        if not self._lines_read:  # fairseq-interactive does not tell when its input, if any, ends
            atexit.register(self._warn_of_unread_lines)
        first, self._lines_read = self._lines_read, self._lines_read + len(pairs)
        if self._lines_read > len(self._ids):
            raise ValueError(
                f"--image-list {self._path} has {len(self._ids)} lines, but the input has at least "
                f"{self._lines_read}. There must be one line for each input line, an empty one "
                "where there is no image."
            )
        rows = self._rows[first : self._lines_read]
        return MultimodalDataset(pairs, self.images, rows, self._collated.append)

    def put_back(self, sample: Dict[str, Any], like: Tensor) -> Dict[str, Any]:
        """Give a mini-batch the images that were collated for its tokens.

        Args:
            sample: what fairseq-interactive built from the tokens.
            like: a parameter of the model, whose device the images get, and features its type.

        Returns:
            `sample` with the images and their mask in its ``net_input``, as
            :meth:`.MultimodalDataset.collater` names them.

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
            name: x.to(like) if x.is_floating_point() else x.to(like.device)
            for name, x in made.items()
            if name.startswith("image")
        }
        return {**sample, "net_input": {**sample["net_input"], **images}}

    def _warn_of_unread_lines(self) -> None:
        if self._lines_read < len(self._ids):
            logger.warning(
                f"--image-list {self._path} has {len(self._ids)} lines, but the input had only "
                f"{self._lines_read}: are they in step?"
            )


def _with_photographs(
    path: str,
    ids: List[str],
    store: Optional[Images],
    description: Optional[Description],
    weights_file: Optional[str],
) -> Images:
    """The store and the photographs among `ids`, as one set of images.

    Raises:
        ValueError: a photograph cannot be read, or there are no images at all.
    """
    wanted = [name for name in dict.fromkeys(ids) if name and (store is None or name not in store)]
    paths = [name for name in wanted if os.path.isfile(name)]
    if not paths:
        if store is None:
            raise ValueError(
                f"--image-list {path} names no photograph that is there; for ids of an image store, "
                "give that with --image-h5"
            )
        if weights_file is not None:
            raise ValueError(
                f"--image-list-weights {weights_file} has no effect: --image-list {path} names images of "
                "the store only. Leave it out."
            )
        return store
    if description is None:
        raise ValueError(
            f"--image-list {path} names photographs, but the checkpoint does not say how the "
            "images of its training were read. Put them into a store, and name ids of that."
        )
    reader = PhotographReader(description, weights_file)
    photographs = Photographs(reader, {name: name for name in paths}, like=store)
    problems = photographs.problems()
    if problems:
        raise ValueError("\n".join(f"--image-list {path}: {line}" for line in problems))
    return photographs if store is None else JoinedStores([store, photographs])
