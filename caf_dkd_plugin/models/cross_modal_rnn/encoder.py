"""The encoder of ``cross_modal_rnn``: embeddings, cross-modal fusion, a bidirectional RNN.

Letters: B sentences, S source tokens, d width of the embeddings, R image regions, D feature size, H
and W pixels, M width of the result, h heads.
"""

from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from ...modules.cross_modal_fusion import CrossModalFusion
from ...modules.recurrent_encoder import RecurrentEncoder
from ...modules.visual_backbone import FROM_CHECKPOINT, IMAGE_BACKBONE, VisualBackbone
from .config import MAX_POSITIONS, CrossModalRNNConfig, reads_images


def build_backbone(cfg: CrossModalRNNConfig) -> VisualBackbone:
    """The backbone that makes features of pictures, frozen up to where it is fine-tuned.

    Raises:
        ValueError: network, weights, layer or picture size cannot be used.
    """
    weights = None if cfg.image_backbone_weights == FROM_CHECKPOINT else cfg.image_backbone_weights
    backbone = VisualBackbone(cfg.image_backbone, cfg.image_backbone_layer, weights, cfg.seed)
    backbone.row_shape(cfg.image_size)  # can it read pictures of that size?
    if cfg.image_finetune_from is not None:
        backbone.finetune_from(cfg.image_finetune_from)
    for weight in backbone.parameters():
        weight.param_group = IMAGE_BACKBONE
    return backbone


class CrossModalRNNEncoder(FairseqEncoder):
    """Embeddings, cross-modal fusion when there are images, a bidirectional RNN.

    Of pictures it makes features itself, with a backbone that is part of it.

    Args:
        cfg: the model's settings.
        dictionary: source dictionary.
        embed_tokens: source embeddings.
    """

    def __init__(self, cfg: CrossModalRNNConfig, dictionary, embed_tokens: nn.Embedding):
        super().__init__(dictionary)
        self.embed_tokens = embed_tokens
        self.dropout = cfg.dropout
        self.embed_dropout = cfg.embed_dropout
        self.backbone: Optional[VisualBackbone] = None
        self.image_feature_size = cfg.image_feature_size
        if cfg.image_size:
            self.backbone = build_backbone(cfg)
            self.image_feature_size = self.backbone.feature_dim
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
        self.recurrence: Optional[RecurrentEncoder] = None
        self.output_size = cfg.encoder_embed_dim
        if cfg.encoder_layers:
            self.recurrence = RecurrentEncoder(
                cfg.rnn_cell,
                cfg.encoder_embed_dim,
                cfg.encoder_hidden_size,
                cfg.encoder_layers,
                cfg.dropout,
            )
            self.output_size = cfg.encoder_hidden_size

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        image_features: Optional[Tensor] = None,
        image_mask: Optional[Tensor] = None,
        images: Optional[Tensor] = None,
        need_maps: bool = False,
    ) -> Dict[str, Tensor]:
        """Encode.

        Args:
            src_tokens: (B, S), padded on the right.
            src_lengths: not used; the lengths are counted from `src_tokens`.
            image_features: (B, R, D); without them and `images` no sentence has an image.
            image_mask: (B, R) bool, True where the region is real; (B, 1) with `images`.
            images: (B, 3, H, W) uint8, for a model that was built for pictures.
            need_maps: also return the attention over the regions.

        Returns:
            ``memory`` (B, S, M) and ``mask`` (B, S) bool; with `need_maps` and a fusion also
            ``fusion_map`` (B, h, S, R) and ``image_mask`` (B, R).

        Raises:
            ValueError: features for a model that was built for pictures.
        """
        mask = src_tokens.ne(self.dictionary.pad())  # (B, S)
        x = F.dropout(self.embed_tokens(src_tokens), self.embed_dropout, self.training)
        maps = {}
        if self.fusion is not None:
            if images is None and image_features is not None and self.backbone is not None:
                raise ValueError(
                    "the model makes features of pictures itself and was given features"
                )
            if images is not None:
                image_features, image_mask = self.read_images(images, image_mask)
            elif image_features is None:
                image_features = x.new_zeros(len(x), 1, self.image_feature_size)
                image_mask = mask.new_zeros(len(x), 1)
            # fairseq-generate --fp16 halves the model, but not the mini-batch
            image_features = image_features.to(x.dtype)
            x, weights = self.fusion(x, mask, image_features, image_mask)  # (B, S, d)
            x = F.dropout(x, self.dropout, self.training)
            if need_maps:
                maps = {"fusion_map": weights, "image_mask": image_mask}
        if self.recurrence is not None:
            x = self.recurrence(x, mask.sum(dim=1))  # (B, S, M)
            x = F.dropout(x, self.dropout, self.training)
        return {"memory": x, "mask": mask, **maps}

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

    def reorder_encoder_out(self, encoder_out: Dict[str, Tensor], new_order: Tensor):
        """Put the sentences into another order, or repeat them for a beam.

        Args:
            encoder_out: what :meth:`forward` returned.
            new_order: (B',) the sentence at each place.
        """
        return {name: x.index_select(0, new_order) for name, x in encoder_out.items()}

    def max_positions(self) -> int:
        return MAX_POSITIONS
