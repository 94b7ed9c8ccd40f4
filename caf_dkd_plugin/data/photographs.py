"""Photographs that are in no store: read when they are asked for, as a store's description says.

Letters: N photographs, R regions, D feature size, S pixels.
"""

from typing import List, Mapping, Optional, Sequence

import numpy as np
import torch

from ..modules.visual_backbone import (
    BackboneError,
    VisualBackbone,
    normalising_in_words,
    weights_from_words,
)
from .image_store import FEATURES, IMAGES, Description
from .joined_stores import Images
from .pictures import Picture, load_picture, resizing_in_words, size_in


class PhotographError(ValueError):
    """Photographs cannot be read as the description says; the message says why and what to do."""


class PhotographReader:
    """Makes of a picture what an image store with a given description would hold.

    Args:
        description: of the store that the model was trained with.
        weights_file: the state dict of the backbone, when its weights are neither torchvision's nor
            random; None looks the weights up by their recorded name.

    Raises:
        PhotographError: the description is none of preprocessing that is known here, the weights
            cannot be had, or they are not those of the description.
    """

    def __init__(self, description: Description, weights_file: Optional[str] = None):
        self.description = description
        size = size_in(description.preprocessing)
        if size is None or description != pixels_description(size):
            self._backbone = _backbone(description, size, weights_file)
        else:
            self._backbone = None
            if weights_file is not None:
                raise PhotographError(
                    f"the model has its backbone inside, so the weights {weights_file} would have no "
                    "effect: leave them out"
                )
        self.image_size = size
        self.row_shape = (
            (size, size, 3) if self._backbone is None else self._backbone.row_shape(size)
        )
        """(R, D) of features or (S, S, 3) of pixels"""

    @torch.no_grad()
    def read(self, picture: Picture) -> np.ndarray:
        """A row of features (R, D) float32, or of pixels (S, S, 3) uint8.

        Raises:
            PhotographError: it is no picture that can be read.
        """
        pixels = self.load(picture)
        if self._backbone is None:
            return pixels
        batch = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)  # (1, 3, S, S)
        return self._backbone(batch)[0].numpy()

    def load(self, picture: Picture) -> np.ndarray:
        """The pixels (S, S, 3) uint8.

        Raises:
            PhotographError: it is no picture that can be read.
        """
        try:
            return load_picture(picture, self.image_size)
        except Exception as error:  # Pillow's readers raise whatever a bad file leads to
            raise PhotographError(f"{picture} is not a readable picture: {error}") from error


class Photographs:
    """N pictures as a set of images; each is read when it is asked for.

    Args:
        reader: makes the rows.
        pictures: the pictures by their ids.
        like: a store whose type the rows get, so that they are rounded like those in it; without
            one, features are float32.
    """

    def __init__(
        self,
        reader: PhotographReader,
        pictures: Mapping[str, Picture],
        like: Optional[Images] = None,
    ):
        self.path = f"{len(pictures)} photographs"
        self.ids = list(pictures)
        self.shape = (len(self.ids), *reader.row_shape)
        self.kind = FEATURES if len(reader.row_shape) == 2 else IMAGES
        own_type = np.dtype(np.float32 if self.kind == FEATURES else np.uint8)
        self.dtype = own_type if like is None else like.dtype
        self.description = reader.description
        self._reader = reader
        self._pictures = list(pictures.values())
        self._row_of = {name: row for row, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    def row_of(self, image_id: str) -> Optional[int]:
        """The row of the picture with this id, or None where there is no such picture."""
        return self._row_of.get(image_id)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """These rows: (len(rows), R, D), or (len(rows), S, S, 3) of pixels.

        Raises:
            PhotographError: it is no picture that can be read.
        """
        different, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        values = np.empty((len(different), *self.shape[1:]), dtype=self.dtype)
        for place, row in enumerate(different):
            values[place] = self._reader.read(self._pictures[row])
        return values[places]

    def problems(self) -> List[str]:
        """The pictures that cannot be read, one line each."""
        found = []
        for picture in self._pictures:
            try:
                self._reader.load(picture)
            except PhotographError as error:
                found.append(str(error))
        return found


def pixels_description(image_size: int) -> Description:
    """The description of a store of pixels."""
    return Description(
        backbone="",
        layer="",
        weights="",
        weights_sha256="",
        preprocessing=resizing_in_words(image_size),
    )


def features_description(backbone: VisualBackbone, image_size: int) -> Description:
    """The description of a store of features that a backbone made."""
    return Description(
        backbone=backbone.name,
        layer=backbone.layer,
        weights=backbone.weights_in_words,
        weights_sha256=backbone.weights_sha256,
        preprocessing=f"{resizing_in_words(image_size)}, {normalising_in_words()}",
    )


def _backbone(
    description: Description, size: Optional[int], weights_file: Optional[str]
) -> VisualBackbone:
    remedy = (
        "Put the photographs into a store with preprocess/extract_features.py and name their ids."
    )
    if size is None or description.preprocessing != (
        f"{resizing_in_words(size)}, {normalising_in_words()}"
    ):
        raise PhotographError(
            "photographs cannot be read as the model's images were: their preprocessing is not the "
            f"one of preprocess/extract_features.py, but {description.preprocessing!r}. Make their "
            "features as those were made, and name ids of a store."
        )
    weights, seed = weights_from_words(description.weights)
    if weights_file is not None:
        weights = weights_file
    elif weights is None:
        raise PhotographError(
            f"the model's image features were made with the weights in a file {description.weights}"
            ": say where it is with --image-list-weights."
        )
    try:
        backbone = VisualBackbone(description.backbone, description.layer, weights, seed)
    except BackboneError as error:
        raise PhotographError(
            f"photographs cannot be read as the model's images were: {error}"
        ) from error
    if backbone.weights_sha256 != description.weights_sha256:
        raise PhotographError(
            f"the weights {weights} of {description.backbone} are not those that made the model's "
            f"image features: SHA-256 {backbone.weights_sha256[:12]}... here, "
            f"{description.weights_sha256[:12]}... then ({description.weights}). {remedy}"
        )
    return backbone
