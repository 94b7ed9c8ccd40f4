"""The settings of ``cross_modal_transformer``, and what can be wrong with them."""

from dataclasses import dataclass, field
from typing import List

from fairseq import utils
from fairseq.dataclass import ChoiceEnum
from fairseq.models.transformer.transformer_config import (
    DecoderConfig,
    EncDecBaseConfig,
    TransformerConfig,
)
from omegaconf import II

from .._cross_modal.config import (
    CrossModalConfig,
    dropout_problems,
    image_problems,
    text_problems,
)


@dataclass
class CrossModalTransformerConfig(CrossModalConfig):
    encoder_embed_dim: int = field(
        default=512, metadata={"help": "width of the source embeddings and of the encoder"}
    )
    encoder_ffn_embed_dim: int = field(
        default=1024, metadata={"help": "width of the hidden layer of the encoder's FFNs"}
    )
    encoder_layers: int = field(
        default=6, metadata={"help": "self-attention layers after the fusion"}
    )
    encoder_attention_heads: int = field(
        default=4, metadata={"help": "heads of the encoder's self-attention; must divide its width"}
    )
    encoder_normalize_before: bool = field(
        default=False,
        metadata={"help": "layer normalisation before each part of an encoder layer, not after it"},
    )
    decoder_embed_dim: int = field(
        default=512, metadata={"help": "width of the target embeddings and of the decoder"}
    )
    decoder_ffn_embed_dim: int = field(
        default=1024, metadata={"help": "width of the hidden layer of the decoder's FFNs"}
    )
    decoder_layers: int = field(default=6, metadata={"help": "layers of the decoder"})
    decoder_attention_heads: int = field(
        default=4,
        metadata={
            "help": "heads of the decoder's self-attention and of that to the encoder's output; "
            "must divide its width"
        },
    )
    decoder_normalize_before: bool = field(
        default=False,
        metadata={"help": "layer normalisation before each part of a decoder layer, not after it"},
    )
    activation_fn: ChoiceEnum(utils.get_available_activation_fns()) = field(
        default="relu", metadata={"help": "activation function of the FFNs of the layers"}
    )
    dropout: float = field(
        default=0.3,
        metadata={"help": "dropout on what the layers read and on the output of their parts"},
    )
    attention_dropout: float = field(
        default=0.0, metadata={"help": "dropout on the weights of the layers' attention"}
    )
    activation_dropout: float = field(
        default=0.0, metadata={"help": "dropout on the hidden layer of the layers' FFNs"}
    )
    max_source_positions: int = II("task.max_source_positions")
    max_target_positions: int = II("task.max_target_positions")


def setting_problems(cfg: CrossModalTransformerConfig, task) -> List[str]:
    """What is wrong with the model's settings for this task, one line each."""
    found = dropout_problems(
        cfg, ("dropout", "attention_dropout", "activation_dropout", "fusion_dropout")
    )
    found += text_problems(cfg, task)
    for side, layers, heads, width in (
        ("encoder", cfg.encoder_layers, cfg.encoder_attention_heads, cfg.encoder_embed_dim),
        ("decoder", cfg.decoder_layers, cfg.decoder_attention_heads, cfg.decoder_embed_dim),
    ):
        if layers < 1:
            found.append(f"--{side}-layers {layers} must be at least 1")
        if heads < 1:
            found.append(f"--{side}-attention-heads {heads} must be at least 1")
        elif width % heads:
            found.append(
                f"--{side}-attention-heads {heads} does not divide --{side}-embed-dim {width}"
            )
    return found + image_problems(cfg)


def fairseq_config(cfg: CrossModalTransformerConfig) -> TransformerConfig:
    """The same settings as fairseq's Transformer has them: in parts, and with many more."""
    return TransformerConfig(
        encoder=EncDecBaseConfig(
            embed_dim=cfg.encoder_embed_dim,
            ffn_embed_dim=cfg.encoder_ffn_embed_dim,
            layers=cfg.encoder_layers,
            attention_heads=cfg.encoder_attention_heads,
            normalize_before=cfg.encoder_normalize_before,
        ),
        decoder=DecoderConfig(
            embed_dim=cfg.decoder_embed_dim,
            ffn_embed_dim=cfg.decoder_ffn_embed_dim,
            layers=cfg.decoder_layers,
            attention_heads=cfg.decoder_attention_heads,
            normalize_before=cfg.decoder_normalize_before,
            input_dim=cfg.decoder_embed_dim,
            output_dim=cfg.decoder_embed_dim,
        ),
        activation_fn=str(cfg.activation_fn),
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.activation_dropout,
        share_decoder_input_output_embed=(
            cfg.share_decoder_input_output_embed or cfg.share_all_embeddings
        ),
        max_source_positions=cfg.max_source_positions,
        max_target_positions=cfg.max_target_positions,
    )
