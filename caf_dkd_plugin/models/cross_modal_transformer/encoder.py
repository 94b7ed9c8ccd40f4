"""The encoder of ``cross_modal_transformer``: embeddings, cross-modal fusion, self-attention layers.

Letters: B sentences, S source tokens, d width, R image regions, D feature size, H and W pixels, L
layers, h heads.
"""

from typing import Any, Dict, Optional

import torch
from fairseq.models.transformer import TransformerEncoderBase
from torch import Tensor, nn

from ...gpu_waits import is_slow_to_look_at
from .._cross_modal.fusing_encoder import FusingEncoder
from .config import CrossModalTransformerConfig, fairseq_config
from .layers import CrossModalTransformerEncoderLayer, recording


class CrossModalTransformerEncoder(FusingEncoder, TransformerEncoderBase):
    """Embeddings, cross-modal fusion when there are images, positions, fairseq's encoder layers.

    The fusion is where the paper and ``cross_modal_rnn`` have it, below all that mixes the words: its
    query is a word and nothing else, so that its maps mean the same in both architectures and one can
    learn from the other's, and what the word has found is there for every layer to spread. The
    positions are added after it; they need not go through its FFN.

    Args:
        cfg: the model's settings.
        dictionary: source dictionary.
        embed_tokens: source embeddings.
    """

    def __init__(self, cfg: CrossModalTransformerConfig, dictionary, embed_tokens: nn.Embedding):
        super().__init__(fairseq_config(cfg), dictionary, embed_tokens)
        self.add_fusion(cfg)

    def build_encoder_layer(self, cfg):
        return CrossModalTransformerEncoderLayer(cfg)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        image_features: Optional[Tensor] = None,
        image_mask: Optional[Tensor] = None,
        images: Optional[Tensor] = None,
        need_maps: bool = False,
    ) -> Dict[str, Any]:
        """Encode.

        Args:
            src_tokens: (B, S), padded on the right.
            src_lengths: not used; padding is found in `src_tokens`.
            image_features: (B, R, D); without them and `images` no sentence has an image.
            image_mask: (B, R) bool, True where the region is real; (B, 1) with `images`.
            images: (B, 3, H, W) uint8, for a model that was built for pictures.
            need_maps: also return the attention of the layers and over the regions.

        Returns:
            as fairseq's decoder takes them, ``encoder_out``, a list of one (S, B, d), and
            ``encoder_padding_mask``, a list of one (B, S) bool, True at padding; with `need_maps` also
            ``encoder_self_map`` (B, L * h, S, S), and with a fusion ``fusion_map`` (B, h, S, R) and
            ``image_mask`` (B, R).

        Raises:
            ValueError: features for a model that was built for pictures.
        """
        padding = src_tokens.eq(self.padding_idx)  # (B, S)
        x, maps = self.embed_scale * self.embed_tokens(src_tokens), {}
        if self.fusion is not None:
            x, maps = self.fuse(x, ~padding, image_features, image_mask, images)
        x = self.dropout_module(x + self.embed_positions(src_tokens))
        x = x.masked_fill(padding.unsqueeze(-1), 0).transpose(0, 1)  # (S, B, d)
        mask = padding if is_slow_to_look_at(padding) or padding.any() else None
        with recording(layer.self_attn for layer in self.layers if need_maps) as record:
            for layer in self.layers:
                x = layer(x, encoder_padding_mask=mask)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        encoder_out = {"encoder_out": [x], "encoder_padding_mask": [padding]}
        if need_maps:
            encoder_out.update(maps, encoder_self_map=torch.cat(record, dim=1))
        return encoder_out

    def reorder_encoder_out(self, encoder_out: Dict[str, Any], new_order: Tensor) -> Dict[str, Any]:
        """Put the sentences into another order, or repeat them for a beam.

        Args:
            encoder_out: what :meth:`forward` returned.
            new_order: (B',) the sentence at each place.
        """
        [x], [padding] = encoder_out["encoder_out"], encoder_out["encoder_padding_mask"]
        lists = {
            "encoder_out": [x.index_select(1, new_order)],
            "encoder_padding_mask": [padding.index_select(0, new_order)],
        }
        maps = {name: x for name, x in encoder_out.items() if name not in lists}
        return {**lists, **{name: x.index_select(0, new_order) for name, x in maps.items()}}
