"""The decoder of ``cross_modal_rnn``: embeddings, an RNN with attention, the output layer.

Letters: N sentences, B targets (in a beam search, hypotheses: several a sentence), S source tokens, T
target tokens, M width of the encoder's output, d width of the embeddings, V target vocabulary, h heads.
"""

from typing import Dict, Optional

import torch
import torch.nn.functional as F
from fairseq.models import FairseqIncrementalDecoder
from torch import Tensor, nn

from ...modules.recurrent_decoder import Memory, RecurrentDecoder
from .config import MAX_POSITIONS, CrossModalRNNConfig


class CrossModalRNNDecoder(FairseqIncrementalDecoder):
    """Embeddings, an RNN with attention over the encoder's output, the output layer.

    Args:
        cfg: the model's settings.
        dictionary: target dictionary.
        embed_tokens: target embeddings.
        memory_size: width of the encoder's output.
    """

    def __init__(
        self, cfg: CrossModalRNNConfig, dictionary, embed_tokens: nn.Embedding, memory_size: int
    ):
        super().__init__(dictionary)
        self.embed_tokens = embed_tokens
        self.dropout = cfg.dropout
        self.embed_dropout = cfg.embed_dropout
        self.recurrence = RecurrentDecoder(
            cell=cfg.rnn_cell,
            input_size=cfg.decoder_embed_dim,
            hidden_size=cfg.decoder_hidden_size,
            layers=cfg.decoder_layers,
            memory_size=memory_size,
            heads=cfg.decoder_attention_heads,
            output_size=cfg.decoder_embed_dim,
            dropout=cfg.dropout,
            attention_dropout=cfg.attention_dropout,
            input_feeding=cfg.decoder_input_feeding,
        )
        self.output_projection = nn.Linear(cfg.decoder_embed_dim, len(dictionary), bias=False)
        if cfg.share_decoder_input_output_embed or cfg.share_all_embeddings:
            self.output_projection.weight = embed_tokens.weight
        else:
            nn.init.normal_(self.output_projection.weight, std=cfg.decoder_embed_dim**-0.5)
        self.register_buffer("gates", None, persistent=False)

    @torch.no_grad()
    def make_generation_fast_(self, retain_dropout: bool = False, **_) -> None:
        """Know what the RNN makes of each symbol, (V, gates), in place of computing it at each step.

        fairseq calls this of a model that will only translate (``prepare_for_inference_``), and will
        not let it train any more.

        Raises:
            ValueError: it is to translate with dropout.
        """
        if retain_dropout:
            raise ValueError(
                "--retain-dropout: a cross_modal_rnn translates without dropout. Leave the option out, or "
                "use a cross_modal_transformer."
            )
        symbols = torch.arange(len(self.dictionary), device=self.embed_tokens.weight.device)
        self.gates = self.recurrence.gates(self.embed_tokens(symbols))

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Dict[str, Tensor],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        need_maps: bool = False,
    ):
        """Decode all steps of a known target, or the next step of a growing one.

        Args:
            prev_output_tokens: (B, T) the target so far, shifted right.
            encoder_out: what the encoder returned.
            incremental_state: fairseq's cache; only the last token is then read.
            need_maps: also return every attention map.

        Returns:
            the logits (B, T, V) and a dictionary: ``attn``, a list of one attention averaged over
            heads (B, T, S); with `need_maps` also ``maps``, per head and before dropout, with
            "cross" (B, h, T, S) and, when there is a fusion, "fusion" (B, h, S, R); and
            ``map_masks``, for each map its query mask (B, X) and its key mask (B, K).
        """
        x, extra = self.extract_features(
            prev_output_tokens, encoder_out, incremental_state, need_maps
        )
        return self.output_layer(x), extra

    def extract_features(
        self, prev_output_tokens, encoder_out, incremental_state=None, need_maps=False
    ):
        """Like :meth:`forward`, with what the output layer reads (B, T, d) in place of logits."""
        mask, sentences = encoder_out["mask"], encoder_out.get("sentences")
        cached = None
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
            cached = self.get_incremental_state(incremental_state, "rnn")
        if cached is None:
            state = self.recurrence.initial_state(encoder_out["memory"], mask)
            if sentences is not None:
                state = tuple(part.index_select(1, sentences) for part in state)
        else:
            state = tuple(cached[name] for name in sorted(cached))
        memory = self._memory(encoder_out, incremental_state)
        if incremental_state is not None and self.gates is not None:
            gates = F.embedding(prev_output_tokens.squeeze(1), self.gates)
            x, state, weights = self.recurrence.step(gates, state, memory)
        else:
            x = F.dropout(self.embed_tokens(prev_output_tokens), self.embed_dropout, self.training)
            x, state, weights = self.recurrence(x, state, memory)
            x = F.dropout(x, self.dropout, self.training)
        if incremental_state is not None:
            named = {f"state{i}": part for i, part in enumerate(state)}
            self.set_incremental_state(incremental_state, "rnn", named)
        extra = {"attn": [weights.mean(dim=1)]}
        if need_maps:

            def placed(x: Tensor) -> Tensor:
                return x if sentences is None else x.index_select(0, sentences)

            source_mask, target_mask = placed(mask), prev_output_tokens.ne(self.dictionary.pad())
            extra["maps"] = {"cross": weights}
            extra["map_masks"] = {"cross": (target_mask, source_mask)}
            if "fusion_map" in encoder_out:
                extra["maps"]["fusion"] = placed(encoder_out["fusion_map"])
                extra["map_masks"]["fusion"] = (source_mask, placed(encoder_out["image_mask"]))
        return x, extra

    def output_layer(self, features: Tensor) -> Tensor:
        """(B, T, d) -> logits (B, T, V)."""
        return self.output_projection(features)

    def _memory(self, encoder_out, incremental_state) -> Memory:
        """What the recurrence reads of each sentence, in groups of as many hypotheses of each."""
        cached = None
        if incremental_state is not None:
            cached = self.get_incremental_state(incremental_state, "memory")
        if cached is None:
            memory = self.recurrence.read(encoder_out["memory"], encoder_out["mask"])
            if incremental_state is not None:
                self.set_incremental_state(incremental_state, "memory", memory._asdict())
        else:
            memory = Memory(**cached)
        if "sentences" not in encoder_out:
            return memory
        sentences, sizes = torch.unique_consecutive(encoder_out["sentences"], return_counts=True)
        alike = bool((sizes == sizes[0]).all())
        return memory.of(sentences if alike else encoder_out["sentences"])

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Follow a beam search that keeps, drops or repeats hypotheses: new_order is (B',)."""
        cached = self.get_incremental_state(incremental_state, "rnn")
        if cached is not None:
            moved = {name: part.index_select(1, new_order) for name, part in cached.items()}
            self.set_incremental_state(incremental_state, "rnn", moved)

    def max_positions(self) -> int:
        return MAX_POSITIONS
