"""The architecture ``cross_modal_transformer``: cross-modal fusion in fairseq's Transformer."""

from typing import Dict, List

from fairseq.models import ARCH_CONFIG_REGISTRY, register_model, register_model_architecture
from fairseq.models.transformer import Embedding
from torch import nn

from ...bfloat16 import without_tpu
from .._cross_modal.model import CrossModalModel
from .._cross_modal.presets import apply_preset
from .config import CrossModalTransformerConfig, setting_problems
from .decoder import CrossModalTransformerDecoder
from .encoder import CrossModalTransformerEncoder

NAME = "cross_modal_transformer"


@register_model(NAME, dataclass=CrossModalTransformerConfig)
class CrossModalTransformerModel(CrossModalModel):
    """A Transformer (Vaswani et al. 2017) whose source words first attend to the image.

    Without images there is no fusion and it is fairseq's ``transformer``, tensor names included. The
    default sizes are those of fairseq's ``transformer_iwslt_de_en``.
    """

    name, config = NAME, CrossModalTransformerConfig

    @classmethod
    def setting_problems(cls, cfg: CrossModalTransformerConfig, task) -> List[str]:
        return setting_problems(cfg, task)

    @classmethod
    def build_embedding(cls, dictionary, size: int) -> nn.Embedding:
        return Embedding(len(dictionary), size, dictionary.pad())

    @classmethod
    def build_parts(cls, cfg, source, target, source_embeddings, target_embeddings):
        return cls(
            CrossModalTransformerEncoder(cfg, source, source_embeddings),
            CrossModalTransformerDecoder(cfg, target, target_embeddings),
        )

    def map_counts(self) -> Dict[str, int]:
        encoder, decoder = self.encoder.layers, self.decoder.layers
        return {
            "encoder_self": sum(layer.self_attn.num_heads for layer in encoder),
            "decoder_self": sum(layer.self_attn.num_heads for layer in decoder),
            "cross": sum(layer.encoder_attn.num_heads for layer in decoder),
            **super().map_counts(),
        }


# Registered with the model, and does nothing there.
ARCH_CONFIG_REGISTRY[NAME] = without_tpu


@register_model_architecture(NAME, "cross_modal_transformer_tiny")
def cross_modal_transformer_tiny(settings):
    """The size that does best on Multi30k (Wu et al. 2021): a teacher of that data, or a student."""
    apply_preset(
        settings,
        NAME,
        CrossModalTransformerConfig,
        encoder_embed_dim=128,
        encoder_ffn_embed_dim=256,
        encoder_layers=4,
        encoder_attention_heads=4,
        decoder_embed_dim=128,
        decoder_ffn_embed_dim=256,
        decoder_layers=4,
        decoder_attention_heads=4,
        fusion_dim=128,
        fusion_ffn_dim=256,
    )


@register_model_architecture(NAME, "cross_modal_transformer_base")
def cross_modal_transformer_base(settings):
    """The base model of Vaswani et al. (2017, Table 3): for some hundred thousand sentences."""
    apply_preset(
        settings,
        NAME,
        CrossModalTransformerConfig,
        encoder_embed_dim=512,
        encoder_ffn_embed_dim=2048,
        encoder_layers=6,
        encoder_attention_heads=8,
        decoder_embed_dim=512,
        decoder_ffn_embed_dim=2048,
        decoder_layers=6,
        decoder_attention_heads=8,
        dropout=0.1,
        fusion_dim=512,
        fusion_heads=8,
        fusion_ffn_dim=2048,
    )
