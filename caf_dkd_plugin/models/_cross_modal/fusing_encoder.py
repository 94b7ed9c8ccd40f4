"""The part of an encoder in which the text attends to images.

Letters: B sentences, S source tokens, d width of the embeddings, R image regions, D feature size, H
and W pixels, h heads.
"""

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor

from ...modules.cross_modal_fusion import CrossModalFusion
from ...modules.visual_backbone import FROM_CHECKPOINT, IMAGE_BACKBONE, VisualBackbone
from .config import CrossModalConfig, reads_images


def build_backbone(cfg: CrossModalConfig) -> VisualBackbone:
    """The backbone that makes features of pictures, frozen up to where it is fine-tuned.

    Raises:
        ValueError: network, weights or layer cannot be used.
    """
    weights = None if cfg.image_backbone_weights == FROM_CHECKPOINT else cfg.image_backbone_weights
    backbone = VisualBackbone(cfg.image_backbone, cfg.image_backbone_layer, weights, cfg.seed)
    if cfg.image_finetune_from is not None:
        backbone.finetune_from(cfg.image_finetune_from)
    for weight in backbone.parameters():
        weight.param_group = IMAGE_BACKBONE
    return backbone


class FusingEncoder:
    """Mixin of fairseq's encoders: ``fusion``, and ``backbone`` that makes features of pictures.

    Either is None where the model was not built for images or pictures. ``regions`` is R of a picture;
    None where the image store has features, and says it.
    """

    def add_fusion(self, cfg: CrossModalConfig) -> None:
        """Build what the settings ask for; `__init__` calls it.

        Raises:
            ValueError: the backbone, or the size of the pictures, cannot be used.
        """
        self.backbone: Optional[VisualBackbone] = None
        self.regions: Optional[int] = None
        self.image_feature_size = cfg.image_feature_size
        if cfg.image_size:
            self.backbone = build_backbone(cfg)
            self.regions, self.image_feature_size = self.backbone.row_shape(cfg.image_size)
        self.fusion: Optional[CrossModalFusion] = None
        if reads_images(cfg):
            self.fusion = CrossModalFusion(
                text_size=cfg.encoder_embed_dim,
                image_size=self.image_feature_size,
                attention_size=cfg.fusion_dim,
                heads=cfg.fusion_heads,
                ffn_size=cfg.fusion_ffn_dim,
                direction=cfg.fusion_direction,
                normalize_image=cfg.fusion_normalize_image,
                residual=cfg.fusion_residual,
                dropout=cfg.fusion_dropout,
            )

    def fuse(
        self,
        text: Tensor,
        mask: Tensor,
        image_features: Optional[Tensor],
        image_mask: Optional[Tensor],
        images: Optional[Tensor],
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Let the text attend to the images; `fusion` is there.

        Args:
            text: (B, S, d).
            mask: (B, S) bool, True where the token is real.
            image_features: (B, R, D); without them and `images` no sentence has an image.
            image_mask: (B, R) bool, True where the region is real; (B, 1) with `images`.
            images: (B, 3, H, W) uint8, for a model that was built for pictures.

        Returns:
            the fused text (B, S, d), and ``fusion_map`` (B, h, S, R), before dropout, with its
            ``image_mask`` (B, R).

        Raises:
            ValueError: features for a model that was built for pictures.
        """
        if images is None and image_features is not None and self.backbone is not None:
            raise ValueError("the model makes features of pictures itself and was given features")
        if images is not None:
            image_features, image_mask = self.read_images(images, image_mask)
        elif image_features is None:
            image_features = text.new_zeros(len(text), 1, self.image_feature_size)
            image_mask = mask.new_zeros(len(text), 1)
        # fairseq-generate --fp16 halves the model, but not the mini-batch
        image_features = image_features.to(text.dtype)
        fused, weights = self.fusion(text, mask, image_features, image_mask)
        return fused, {"fusion_map": weights, "image_mask": image_mask}

    def read_images(self, images: Tensor, image_mask: Tensor) -> Tuple[Tensor, Tensor]:
        """Features of the pictures that are real; the backbone does not run on the others.

        Args:
            images: (B, 3, H, W).
            image_mask: (B, 1) bool, True where the picture is real.

        Returns:
            the features (B, R, D), zero where there is no picture, and their mask (B, R).
        """
        real = image_mask.squeeze(1)  # (B,)
        if not real.any():  # data-parallel workers must all see the same graph
            real = torch.arange(len(real), device=real.device) == 0
        found = self.backbone(images[real])  # (n, R, D)
        features = found.new_zeros(len(real), *found.shape[1:]).index_put((real,), found)
        return features, image_mask.expand(-1, features.size(1))
