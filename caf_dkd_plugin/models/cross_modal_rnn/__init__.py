"""The architecture ``cross_modal_rnn``: cross-modal fusion, recurrent encoder, recurrent decoder."""

from typing import Dict, List

from fairseq.models import ARCH_CONFIG_REGISTRY, register_model, register_model_architecture

from ...bfloat16 import without_tpu
from ...modules.scaled_embedding import ScaledEmbedding
from .._cross_modal.model import CrossModalModel
from .._cross_modal.presets import apply_preset
from .config import CrossModalRNNConfig, setting_problems
from .decoder import CrossModalRNNDecoder
from .encoder import CrossModalRNNEncoder

NAME = "cross_modal_rnn"


@register_model(NAME, dataclass=CrossModalRNNConfig)
class CrossModalRNNModel(CrossModalModel):
    """CAF-DKD's translator: FFN([X ; MultiHeadAttention(X, image)]), an RNN, an RNN decoder.

    Without images there is no fusion and it is a plain RNN translator.
    """

    name, config = NAME, CrossModalRNNConfig

    @classmethod
    def setting_problems(cls, cfg: CrossModalRNNConfig, task) -> List[str]:
        return setting_problems(cfg, task)

    @classmethod
    def build_embedding(cls, dictionary, size: int) -> ScaledEmbedding:
        return ScaledEmbedding(len(dictionary), size, dictionary.pad())

    @classmethod
    def build_parts(cls, cfg, source, target, source_embeddings, target_embeddings):
        encoder = CrossModalRNNEncoder(cfg, source, source_embeddings)
        decoder = CrossModalRNNDecoder(cfg, target, target_embeddings, encoder.output_size)
        return cls(encoder, decoder)

    def map_counts(self) -> Dict[str, int]:
        return {"cross": self.decoder.recurrence.heads, **super().map_counts()}


# Registered with the model, and does nothing there.
ARCH_CONFIG_REGISTRY[NAME] = without_tpu


@register_model_architecture(NAME, "cross_modal_rnn_tiny")
def cross_modal_rnn_tiny(settings):
    """Half the width: for a few thousand short sentences, as in the demo."""
    apply_preset(
        settings,
        NAME,
        CrossModalRNNConfig,
        encoder_embed_dim=128,
        encoder_hidden_size=128,
        decoder_embed_dim=128,
        decoder_hidden_size=128,
        fusion_dim=128,
        fusion_ffn_dim=256,
    )


@register_model_architecture(NAME, "cross_modal_rnn_paper")
def cross_modal_rnn_paper(settings):
    """The paper's literal encoder and listing: no recurrence, one head, attention of width 128."""
    apply_preset(
        settings, NAME, CrossModalRNNConfig, encoder_layers=0, fusion_dim=128, fusion_heads=1
    )
