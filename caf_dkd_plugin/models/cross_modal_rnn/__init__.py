"""The architecture ``cross_modal_rnn``: cross-modal fusion, recurrent encoder, recurrent decoder."""

from argparse import Namespace
from typing import Optional

from fairseq.dataclass.utils import merge_with_parent
from fairseq.models import (
    ARCH_CONFIG_REGISTRY,
    FairseqEncoderDecoderModel,
    register_model,
    register_model_architecture,
)
from omegaconf import DictConfig
from torch import Tensor

from ...bfloat16 import without_tpu
from ...modules.scaled_embedding import ScaledEmbedding
from .config import CrossModalRNNConfig, setting_problems
from .decoder import CrossModalRNNDecoder
from .encoder import CrossModalRNNEncoder


@register_model("cross_modal_rnn", dataclass=CrossModalRNNConfig)
class CrossModalRNNModel(FairseqEncoderDecoderModel):
    """CAF-DKD's translator: FFN([X ; MultiHeadAttention(X, image)]), an RNN, an RNN decoder.

    Without images there is no fusion and it is a plain RNN translator.
    """

    @classmethod
    def build_model(cls, cfg: CrossModalRNNConfig, task):
        """Build the model for a task.

        Raises:
            ValueError: settings that contradict each other, all of them in one message.
        """
        if isinstance(cfg, DictConfig):
            # fairseq does so itself, but not for a checkpoint that names a preset: a field that is
            # newer than the checkpoint gets its default
            cfg = merge_with_parent(CrossModalRNNConfig(), cfg)
        problems = setting_problems(cfg, task)
        if problems:
            raise ValueError("cross_modal_rnn:\n" + "\n".join(f"- {line}" for line in problems))
        source, target = task.source_dictionary, task.target_dictionary
        source_embeddings = _embedding(source, cfg.encoder_embed_dim)
        target_embeddings = (
            source_embeddings
            if cfg.share_all_embeddings
            else _embedding(target, cfg.decoder_embed_dim)
        )
        encoder = CrossModalRNNEncoder(cfg, source, source_embeddings)
        decoder = CrossModalRNNDecoder(cfg, target, target_embeddings, encoder.output_size)
        return cls(encoder, decoder)

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


def _embedding(dictionary, size: int) -> ScaledEmbedding:
    return ScaledEmbedding(len(dictionary), size, dictionary.pad())


def apply_preset(settings, **preset) -> None:
    """Give each field of a preset that --arch leaves open its value, and name the model itself.

    So a checkpoint names the model and has every value written out. fairseq calls a preset again when
    it builds a model whose settings still name one. By then every field has a value: in the
    checkpoint of an earlier version the preset's, but fairseq-hydra-train knows no presets.

    Args:
        settings: the parsed command line, or the settings of the model to build.
        preset: the fields and their values.

    Raises:
        ValueError: the preset is named, but its fields have the model's defaults.
    """
    if isinstance(settings, Namespace):
        without_tpu(settings)
        for name, value in preset.items():
            setattr(settings, name, getattr(settings, name, value))
        settings.arch = "cross_modal_rnn"
        return
    ignored = [
        f"{name} is {getattr(CrossModalRNNConfig, name)}, not {value}"
        for name, value in preset.items()
        if getattr(settings, name, None) == getattr(CrossModalRNNConfig, name)
    ]
    if ignored:
        fields = ", ".join(f"{name}: {value}" for name, value in preset.items())
        raise ValueError(
            f"the preset {settings._name} has no effect in a YAML, only with --arch: "
            f"{'; '.join(ignored)}. Write the model out, as in examples/quickstart/configs: "
            f"model: {{_name: cross_modal_rnn, {fields}}}"
        )


# Registered with the model, and does nothing there.
ARCH_CONFIG_REGISTRY["cross_modal_rnn"] = without_tpu


@register_model_architecture("cross_modal_rnn", "cross_modal_rnn_tiny")
def cross_modal_rnn_tiny(settings):
    """Half the width: for a few thousand short sentences, as in the demo."""
    apply_preset(
        settings,
        encoder_embed_dim=128,
        encoder_hidden_size=128,
        decoder_embed_dim=128,
        decoder_hidden_size=128,
        fusion_dim=128,
        fusion_ffn_dim=256,
    )


@register_model_architecture("cross_modal_rnn", "cross_modal_rnn_paper")
def cross_modal_rnn_paper(settings):
    """The paper's literal encoder and listing: no recurrence, one head, attention of width 128."""
    apply_preset(settings, encoder_layers=0, fusion_dim=128, fusion_heads=1)
