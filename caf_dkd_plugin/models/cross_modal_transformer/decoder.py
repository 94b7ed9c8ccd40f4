"""The decoder of ``cross_modal_transformer``: fairseq's, with maps.

Letters: B sentences, S source tokens, T target tokens, d width, R image regions, L layers, h heads, V
target vocabulary.
"""

from typing import Any, Dict, Optional

import torch
from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor, nn

from .config import CrossModalTransformerConfig, fairseq_config
from .layers import CrossModalTransformerDecoderLayer, recording


class CrossModalTransformerDecoder(TransformerDecoderBase):
    """fairseq's decoder, which can also return every attention map.

    Args:
        cfg: the model's settings.
        dictionary: target dictionary.
        embed_tokens: target embeddings.
    """

    def __init__(self, cfg: CrossModalTransformerConfig, dictionary, embed_tokens: nn.Embedding):
        super().__init__(fairseq_config(cfg), dictionary, embed_tokens)

    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return CrossModalTransformerDecoderLayer(cfg, no_encoder_attn)

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Dict[str, Any],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        need_maps: bool = False,
    ):
        """Decode all steps of a known target, or the next step of a growing one.

        Args:
            prev_output_tokens: (B, T) the target so far, shifted right.
            encoder_out: what the encoder returned, with `need_maps` if it is asked for here.
            incremental_state: fairseq's cache; only the last token is then read.
            need_maps: also return every attention map.

        Returns:
            the logits (B, T, V) and a dictionary: ``attn``, a list of one, the last layer's attention
            averaged over heads (B, T, S); with `need_maps` also ``maps``, per head and before dropout,
            the heads of the first layer first, with "encoder_self" (B, L * h, S, S), "decoder_self"
            (B, L * h, T, T), "cross" (B, L * h, T, S) and, when there is a fusion, "fusion"
            (B, h, S, R); and ``map_masks``, for each map its query mask (B, X) and its key mask
            (B, K). Of "decoder_self" no token attends to those after it.
        """
        x, extra = self.extract_features(
            prev_output_tokens, encoder_out, incremental_state, need_maps
        )
        return self.output_layer(x), extra

    def extract_features(
        self, prev_output_tokens, encoder_out, incremental_state=None, need_maps=False
    ):
        """Like :meth:`forward`, with what the output layer reads (B, T, d) in place of logits."""
        recorded = self.layers if need_maps else ()
        with (
            recording(layer.self_attn for layer in recorded) as decoder_self,
            recording(layer.encoder_attn for layer in recorded) as cross,
        ):
            x, extra = super().extract_features(prev_output_tokens, encoder_out, incremental_state)
        extra = {"attn": extra["attn"]}
        if need_maps:
            [padding] = encoder_out["encoder_padding_mask"]
            source, target = ~padding, prev_output_tokens.ne(self.padding_idx)
            read = target if incremental_state is None else target[:, -1:]
            extra["maps"] = {
                "encoder_self": encoder_out["encoder_self_map"],
                "decoder_self": torch.cat(decoder_self, dim=1),
                "cross": torch.cat(cross, dim=1),
            }
            extra["map_masks"] = {
                "encoder_self": (source, source),
                "decoder_self": (read, target),
                "cross": (read, source),
            }
            if "fusion_map" in encoder_out:
                extra["maps"]["fusion"] = encoder_out["fusion_map"]
                extra["map_masks"]["fusion"] = (source, encoder_out["image_mask"])
        return x, extra
