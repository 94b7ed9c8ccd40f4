"""In which form a model reads images, and whether those of a store are of the same kind."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from .image_store import FEATURES, IMAGES
from .joined_stores import Images


class ImageFormat(NamedTuple):
    """A kind of rows, and how large they are."""

    kind: str
    """"features" or "images" (pixels)"""
    size: int
    """feature size D, or the side S of the square pictures, in pixels"""

    def __str__(self) -> str:
        if self.kind == FEATURES:
            return f"image features of size {self.size}"
        return f"pictures of {self.size} x {self.size} pixels"

    def as_settings(self) -> Dict[str, int]:
        """The model's setting that says so."""
        return {_SETTINGS[self.kind]: self.size}

    @property
    def option(self) -> str:
        """The same as it would stand on a command line."""
        return f"--{_SETTINGS[self.kind].replace('_', '-')} {self.size}"


_SETTINGS = {FEATURES: "image_feature_size", IMAGES: "image_size"}


def format_of_store(store: Images) -> ImageFormat:
    """The form of a store's rows.

    Raises:
        ValueError: its pictures are not square.
    """
    if store.kind == IMAGES and store.shape[1] != store.shape[2]:
        raise ValueError(
            f"the pictures of {store.path} have {store.shape[1]} x {store.shape[2]} pixels; square "
            "ones are needed: make them with preprocess/extract_features.py --raw"
        )
    return ImageFormat(store.kind, store.shape[2])


def format_of_model(cfg: Any) -> Optional[ImageFormat]:
    """The form that a model's settings name, or None where it reads no images."""
    for kind, name in _SETTINGS.items():
        if getattr(cfg, name, 0):
            return ImageFormat(kind, getattr(cfg, name))
    return None


def can_read_images(cfg: Any) -> bool:
    """Whether an architecture can read images, by its settings."""
    return all(hasattr(cfg, name) for name in _SETTINGS.values())


def disagreements(
    model: str, trained: ImageFormat, description: Optional[Mapping[str, str]], store: Images
) -> List[str]:
    """Why a trained model cannot read the images of a store.

    Args:
        model: what to call it.
        trained: the form of the images of its training.
        description: of the store of its training; None where the checkpoint has none.
        store: the images that it is to read now.
    """
    found, differences = format_of_store(store), []
    if description is not None:
        differences = store.description.differences(description, f"in {store.path}", "then")
    how = "; ".join(differences)
    remedy = "Make the store as that of the training was made."
    if trained != found:
        made = f" ({how})" if how else ""
        return [f"{model} was trained with {trained}, but {store.path} has {found}{made}. {remedy}"]
    if not differences:
        return []
    return [f"{model} was trained with images of another kind: {how}. {remedy}"]
