"""A fairseq model of an encoder that reads text and images, and a decoder."""

from typing import ClassVar, Dict, List, Optional, Type

from fairseq.dataclass.utils import merge_with_parent
from fairseq.models import FairseqEncoderDecoderModel
from omegaconf import DictConfig
from torch import Tensor, nn

from .config import CrossModalConfig


class CrossModalModel(FairseqEncoderDecoderModel):
    """Base of the architectures; one says what it is called and how its parts are built."""

    name: ClassVar[str]
    """under which it is registered"""
    config: ClassVar[Type[CrossModalConfig]]

    @classmethod
    def setting_problems(cls, cfg: CrossModalConfig, task) -> List[str]:
        """What is wrong with the settings for this task, one line each."""
        raise NotImplementedError

    @classmethod
    def build_embedding(cls, dictionary, size: int) -> nn.Embedding:
        """Embeddings of the symbols of a dictionary."""
        raise NotImplementedError

    @classmethod
    def build_parts(
        cls, cfg, source, target, source_embeddings, target_embeddings
    ) -> "CrossModalModel":
        """The model of checked settings, two dictionaries and their embeddings."""
        raise NotImplementedError

    @classmethod
    def build_model(cls, cfg: CrossModalConfig, task) -> "CrossModalModel":
        """Build the model for a task.

        Raises:
            ValueError: settings that contradict each other, all of them in one message.
        """
        if isinstance(cfg, DictConfig):
            # fairseq does so itself, but not for a checkpoint that names a preset: a field that is
            # newer than the checkpoint gets its default
            cfg = merge_with_parent(cls.config(), cfg)
        problems = cls.setting_problems(cfg, task)
        if problems:
            raise ValueError(f"{cls.name}:\n" + "\n".join(f"- {line}" for line in problems))
        source, target = task.source_dictionary, task.target_dictionary
        source_embeddings = cls.build_embedding(source, cfg.encoder_embed_dim)
        target_embeddings = (
            source_embeddings
            if cfg.share_all_embeddings
            else cls.build_embedding(target, cfg.decoder_embed_dim)
        )
        return cls.build_parts(cfg, source, target, source_embeddings, target_embeddings)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        image_features: Optional[Tensor] = None,
        image_mask: Optional[Tensor] = None,
        images: Optional[Tensor] = None,
        need_maps: bool = False,
    ):
        """Teacher-forced pass; arguments and result as in encoder and decoder."""
        encoder_out = self.encoder(
            src_tokens, src_lengths, image_features, image_mask, images, need_maps
        )
        return self.decoder(prev_output_tokens, encoder_out, need_maps=need_maps)

    def map_counts(self) -> Dict[str, int]:
        """Of each family of attention that `need_maps` gives, the number of maps."""
        fusion = self.encoder.fusion
        return {} if fusion is None else {"fusion": fusion.text_to_image.heads}
