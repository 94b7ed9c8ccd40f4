"""What images the models from checkpoints were trained with."""

from typing import Dict, List, NamedTuple, Optional

from ...data.image_format import ImageFormat, disagreements
from ...data.image_store import Description
from ...data.joined_stores import Images


class TrainedOn(NamedTuple):
    """What images a model was trained with."""

    format: Optional[ImageFormat]
    """None for a model without images"""
    description: Optional[Dict[str, str]]
    """of the image store; None where the checkpoint has none"""


class TrainedImages:
    """The same of all models that a command has loaded, since there may be an ensemble."""

    def __init__(self):
        self._models: List[TrainedOn] = []

    def add(self, trained: TrainedOn) -> None:
        """One more model."""
        self._models.append(trained)

    def __bool__(self) -> bool:
        """Whether a model was trained with images."""
        return any(trained.format for trained in self._models)

    @property
    def are_of_nobody(self) -> bool:
        """Whether there are models, and all of them were trained without images."""
        return bool(self._models) and not self

    @property
    def description(self) -> Optional[Description]:
        """Where the images came from, if a checkpoint says so."""
        known = (trained.description for trained in self._models if trained.description)
        description = next(known, None)
        return Description(**description) if description is not None else None

    def check(self, images: Images) -> None:
        """Can the models read these images?

        Raises:
            ValueError: they are of another kind than those of a model's training.
        """
        found = [
            line
            for trained in self._models
            if trained.format is not None
            for line in disagreements("the model", trained.format, trained.description, images)
        ]
        if found:
            raise ValueError("\n".join(found))
