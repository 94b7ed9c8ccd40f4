"""The cross-modal encoder of CAF-DKD: text attends to image regions, both go through an FFN.

Letters: B sentences, S source tokens, R image regions, D feature size, d width, h heads.
"""

from typing import Any, Dict, Tuple

import torch
from torch import Tensor, nn

from .cross_modal_attention import CrossModalAttention
from .retained_dropout import RetainedDropout

TEXT_TO_IMAGE = "text-to-image"
BOTH = "both"


class CrossModalFusion(nn.Module):
    """FFN([X ; A]) with A = MultiHeadAttention(query X, key and value: the image's regions).

    The formula is the paper's. Its introduction also names the direction from image to text,
    without a formula: with direction "both" the regions V first attend to the text, and the text
    then attends to V plus what they found. The FFN is a linear layer, ReLU, dropout and a linear
    layer; the paper leaves it open.

    Args:
        text_size: width d of X, and of the result.
        image_size: feature size D.
        attention_size: width of the attention, over all heads.
        heads: number of heads, a divisor of `attention_size`.
        ffn_size: width of the hidden layer of the FFN.
        direction: "text-to-image" or "both".
        normalize_image: apply layer normalisation to each region's features first, for features
            whose scale is far from 1.
        residual: add X to the result.
        dropout: dropout on the attention weights and inside the FFN.
    """

    def __init__(
        self,
        text_size: int,
        image_size: int,
        attention_size: int,
        heads: int,
        ffn_size: int,
        direction: str,
        normalize_image: bool,
        residual: bool,
        dropout: float,
    ):
        super().__init__()
        self.residual = residual
        self.image_norm = nn.LayerNorm(image_size) if normalize_image else nn.Identity()
        self.image_to_text = (
            CrossModalAttention(image_size, text_size, attention_size, heads, dropout)
            if direction == BOTH
            else None
        )
        self.text_to_image = CrossModalAttention(
            text_size, image_size, attention_size, heads, dropout
        )
        self.ffn = nn.Sequential(
            nn.Linear(2 * text_size, ffn_size),
            nn.ReLU(),
            RetainedDropout(dropout, "CrossModalFusion"),
            nn.Linear(ffn_size, text_size),
        )

    def settings(self) -> Dict[str, Any]:
        """By the names of the models' options, those of which the weights' shapes do not tell all."""
        return {
            "fusion_heads": self.text_to_image.heads,
            "fusion_direction": TEXT_TO_IMAGE if self.image_to_text is None else BOTH,
            "fusion_residual": self.residual,
            "fusion_normalize_image": isinstance(self.image_norm, nn.LayerNorm),
        }

    def forward(
        self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            text: X, (B, S, d).
            text_mask: (B, S) bool, True where the token is real.
            image: (B, R, D).
            image_mask: (B, R) bool, True where the region is real; a sentence without an image
                has none, and its A is zero.

        Returns:
            the fused text (B, S, d) and the attention over the regions (B, h, S, R), before dropout.
        """
        image = self.image_norm(image)
        if self.image_to_text is not None:
            text_context, _ = self.image_to_text(image, text, text_mask)  # (B, R, D)
            image = image + text_context
        context, weights = self.text_to_image(text, image, image_mask)  # (B, S, d)
        fused = self.ffn(torch.cat([text, context], dim=-1))
        return (text + fused if self.residual else fused), weights
