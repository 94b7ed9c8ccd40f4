"""The settings of ``cross_modal_rnn``, and what can be wrong with them."""

from dataclasses import dataclass, field
from typing import List

from fairseq.dataclass import ChoiceEnum

from ...modules.recurrent_encoder import CELLS
from .._cross_modal.config import (
    CrossModalConfig,
    dropout_problems,
    image_problems,
    text_problems,
)

MAX_POSITIONS = 100_000
"""a recurrent network has no limit of its own; fairseq wants a number"""


@dataclass
class CrossModalRNNConfig(CrossModalConfig):
    rnn_cell: ChoiceEnum(list(CELLS)) = field(
        default="gru", metadata={"help": "recurrent cell of encoder and decoder"}
    )
    encoder_embed_dim: int = field(
        default=256, metadata={"help": "width of the source embeddings and of the fusion's result"}
    )
    encoder_hidden_size: int = field(
        default=256,
        metadata={"help": "width of the encoder's output, half of it from each direction"},
    )
    encoder_layers: int = field(
        default=1,
        metadata={
            "help": "bidirectional recurrent layers after the fusion; 0 is the paper's literal "
            "encoder, which sees no word order"
        },
    )
    decoder_embed_dim: int = field(
        default=256,
        metadata={"help": "width of the target embeddings and of the decoder's output"},
    )
    decoder_hidden_size: int = field(
        default=256, metadata={"help": "width of the decoder's recurrent layers"}
    )
    decoder_layers: int = field(default=1, metadata={"help": "recurrent layers of the decoder"})
    decoder_attention_heads: int = field(
        default=1,
        metadata={"help": "heads of the decoder's attention; must divide the encoder's width"},
    )
    decoder_input_feeding: bool = field(
        default=False,
        metadata={
            "help": "the decoder also reads its output of the step before, which makes training "
            "slower: no fused call over all steps"
        },
    )
    dropout: float = field(
        default=0.3,
        metadata={"help": "dropout on the output of fusion, encoder and decoder, between layers"},
    )
    embed_dropout: float = field(default=0.3, metadata={"help": "dropout on the embeddings"})
    attention_dropout: float = field(
        default=0.0, metadata={"help": "dropout on the weights of the decoder's attention"}
    )


def setting_problems(cfg: CrossModalRNNConfig, task) -> List[str]:
    """What is wrong with the model's settings for this task, one line each."""
    found = dropout_problems(
        cfg, ("dropout", "embed_dropout", "attention_dropout", "fusion_dropout")
    )
    found += text_problems(cfg, task)
    if cfg.decoder_layers < 1:
        found.append(f"--decoder-layers {cfg.decoder_layers} must be at least 1")
    if cfg.encoder_layers < 0:
        found.append(f"--encoder-layers {cfg.encoder_layers} must not be negative")
    if cfg.encoder_layers and cfg.encoder_hidden_size % 2:
        found.append(
            f"--encoder-hidden-size {cfg.encoder_hidden_size} is odd; each direction has half"
        )
    memory_size = cfg.encoder_hidden_size if cfg.encoder_layers else cfg.encoder_embed_dim
    if cfg.decoder_attention_heads < 1:
        found.append(f"--decoder-attention-heads {cfg.decoder_attention_heads} must be at least 1")
    elif memory_size % cfg.decoder_attention_heads:
        found.append(
            f"--decoder-attention-heads {cfg.decoder_attention_heads} does not divide the "
            f"width {memory_size} of the encoder's output"
        )
    return found + image_problems(cfg)
