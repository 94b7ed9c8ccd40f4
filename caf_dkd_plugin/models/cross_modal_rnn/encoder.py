"""The encoder of ``cross_modal_rnn``: embeddings, cross-modal fusion, a bidirectional RNN.

Letters: B sentences, S source tokens, d width of the embeddings, R image regions, D feature size, H
and W pixels, M width of the result, h heads.
"""

from typing import Dict, Optional

import torch.nn.functional as F
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from ...modules.recurrent_encoder import RecurrentEncoder
from .._cross_modal.fusing_encoder import FusingEncoder
from .config import MAX_POSITIONS, CrossModalRNNConfig


class CrossModalRNNEncoder(FusingEncoder, FairseqEncoder):
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
        self.add_fusion(cfg)
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
            x, maps = self.fuse(x, mask, image_features, image_mask, images)
            x = F.dropout(x, self.dropout, self.training)
        if self.recurrence is not None:
            x = self.recurrence(x, mask.sum(dim=1))  # (B, S, M)
            x = F.dropout(x, self.dropout, self.training)
        return {"memory": x, "mask": mask, **(maps if need_maps else {})}

    def reorder_encoder_out(self, encoder_out: Dict[str, Tensor], new_order: Tensor):
        """Put the sentences into another order, or repeat them for a beam, without a copy of them.

        Args:
            encoder_out: what :meth:`forward` returned.
            new_order: (B',) the sentence or hypothesis at each place.

        Returns:
            `encoder_out` with ``sentences`` (B',), for each place the row of ``memory`` that is its.
        """
        sentences = encoder_out.get("sentences")
        moved = new_order if sentences is None else sentences.index_select(0, new_order)
        return {**encoder_out, "sentences": moved}

    def max_positions(self) -> int:
        return MAX_POSITIONS
