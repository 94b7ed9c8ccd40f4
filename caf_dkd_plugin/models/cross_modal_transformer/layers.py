"""fairseq's Transformer layers, whose attention can be recorded.

Letters: B sentences, X queries, K keys, h heads, L layers.
"""

import contextlib
from typing import ContextManager, Iterable, Iterator, List, Optional

import torch
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import (
    TransformerDecoderLayerBase,
    TransformerEncoderLayerBase,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def _plain_products(query: Tensor) -> ContextManager:
    """In which attention in bfloat16 on a CPU, if it has a gradient, is computed as matrix products.

    The gradient of PyTorch's fused kernel is slow there: a training step of the tiny preset takes 1.6
    times as long with it. Elsewhere PyTorch chooses.
    """
    on_cpu = query.device.type == "cpu"
    if on_cpu and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


class RecordedAttention(MultiheadAttention):
    """fairseq's attention; while it is recorded, its weights go into a list.

    fairseq's layers ask the self-attention for no weights, and what PyTorch's attention gives is their
    mean over the heads, after dropout. So a recorded attention takes the path that fairseq has for
    decoding, which computes each head's weights before dropout; one that is not recorded is fairseq's.
    """

    record: Optional[List[Tensor]] = None

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        incremental_state=None,
        need_weights=True,
        static_kv=False,
        attn_mask=None,
        before_softmax=False,
        need_head_weights=False,
    ):
        """Like fairseq's."""
        recorded = self.record is not None
        with _plain_products(query):
            result, weights = super().forward(
                query,
                key,
                value,
                key_padding_mask=key_padding_mask,
                incremental_state=incremental_state,
                need_weights=need_weights,
                # without a state to keep them in, "static" keys mean nothing but: not PyTorch's attention
                static_kv=static_kv or (recorded and incremental_state is None),
                attn_mask=attn_mask,
                before_softmax=before_softmax,
                need_head_weights=need_head_weights or recorded,
            )
        if recorded:
            self.record.append(weights.transpose(0, 1))  # (B, h, X, K)
            if not need_head_weights:
                weights = weights.mean(dim=0) if need_weights else None
        return result, weights


@contextlib.contextmanager
def recording(attentions: Iterable[RecordedAttention]) -> Iterator[List[Tensor]]:
    """While it lasts, these attentions are recorded.

    Args:
        attentions: in the order in which they run.

    Yields:
        a list that gets, each time that one of them runs, its weights (B, h, X, K), before dropout.
    """
    attentions, record = list(attentions), []
    for attention in attentions:
        attention.record = record
    try:
        yield record
    finally:
        for attention in attentions:
            attention.record = None


class CrossModalTransformerEncoderLayer(TransformerEncoderLayerBase):
    """fairseq's layer, recordable, and in fairseq 0.12.2 without its shortcut at inference.

    For the shortcut a layer there has all its weights a second time: as parameters that get no gradient,
    and in checkpoints that other versions of fairseq then refuse. Nor does it return columns in which
    every sentence is padded.
    """

    def __init__(self, cfg):
        super().__init__(cfg)
        for name, _ in list(self.named_parameters(recurse=False)):
            delattr(self, name)

    def _load_from_state_dict(self, *args):
        """PyTorch's: that of fairseq 0.12.2 wants to fill the second weights."""
        nn.Module._load_from_state_dict(self, *args)

    def build_self_attention(self, embed_dim, cfg):
        return RecordedAttention(
            embed_dim,
            cfg.encoder.attention_heads,
            dropout=cfg.attention_dropout,
            self_attention=True,
        )


class CrossModalTransformerDecoderLayer(TransformerDecoderLayerBase):
    """fairseq's layer, recordable."""

    def build_self_attention(self, embed_dim, cfg, add_bias_kv=False, add_zero_attn=False):
        return RecordedAttention(
            embed_dim,
            cfg.decoder.attention_heads,
            dropout=cfg.attention_dropout,
            add_bias_kv=add_bias_kv,
            add_zero_attn=add_zero_attn,
            self_attention=True,
        )

    def build_encoder_attention(self, embed_dim, cfg):
        return RecordedAttention(
            embed_dim,
            cfg.decoder.attention_heads,
            kdim=cfg.encoder.embed_dim,
            vdim=cfg.encoder.embed_dim,
            dropout=cfg.attention_dropout,
            encoder_decoder_attention=True,
        )
