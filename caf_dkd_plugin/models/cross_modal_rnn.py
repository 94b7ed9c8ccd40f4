"""The architecture ``cross_modal_rnn``: cross-modal fusion, recurrent encoder, recurrent decoder.

Letters: B sentences, S source tokens, T target tokens, R image regions, D feature size, V target
vocabulary, h heads.
"""

import math
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.dataclass.utils import merge_with_parent
from fairseq.models import (
    FairseqEncoder,
    FairseqEncoderDecoderModel,
    FairseqIncrementalDecoder,
    register_model,
    register_model_architecture,
)
from omegaconf import II, DictConfig
from torch import Tensor, nn

from ..modules.cross_modal_fusion import BOTH, TEXT_TO_IMAGE, CrossModalFusion
from ..modules.recurrent_decoder import RecurrentDecoder
from ..modules.recurrent_encoder import CELLS, RecurrentEncoder
from ..modules.visual_backbone import IMAGENET, LAYERS, VisualBackbone

MAX_POSITIONS = 100_000
"""a recurrent network has no limit of its own; fairseq wants a number"""


@dataclass
class CrossModalRNNConfig(FairseqDataclass):
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
    share_decoder_input_output_embed: bool = field(
        default=False, metadata={"help": "one matrix for target embeddings and output layer"}
    )
    share_all_embeddings: bool = field(
        default=False,
        metadata={
            "help": "one matrix for source embeddings, target embeddings and output layer; needs "
            "one joint dictionary"
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
    fusion_dim: int = field(
        default=256, metadata={"help": "width of the attention from text to image, over all heads"}
    )
    fusion_heads: int = field(
        default=4, metadata={"help": "heads of the attention from text to image"}
    )
    fusion_ffn_dim: int = field(
        default=512, metadata={"help": "width of the hidden layer of the fusion's FFN"}
    )
    fusion_direction: ChoiceEnum([TEXT_TO_IMAGE, BOTH]) = field(
        default=TEXT_TO_IMAGE,
        metadata={
            "help": "'both': regions first attend to the text, the text then attends to those"
        },
    )
    fusion_dropout: float = field(
        default=0.1,
        metadata={"help": "dropout on the weights of the fusion's attention and in its FFN"},
    )
    fusion_residual: bool = field(
        default=False, metadata={"help": "add the source embeddings to the fusion's result"}
    )
    fusion_normalize_image: bool = field(
        default=False,
        metadata={
            "help": "layer normalisation of the image features, for features of unusual scale"
        },
    )
    image_feature_size: int = field(
        default=0,
        metadata={
            "help": "feature size D of the image store, written here by the task; 0: no features. "
            "Not to be given by hand"
        },
    )
    image_size: int = field(
        default=0,
        metadata={
            "help": "side in pixels of the pictures of the image store, written here by the task; "
            "0: no pictures. Not to be given by hand"
        },
    )
    image_backbone: str = field(
        default="resnet18",
        metadata={"help": "for a store of pixels: a convolutional classifier of torchvision"},
    )
    image_backbone_layer: ChoiceEnum(list(LAYERS)) = field(
        default=LAYERS[0],
        metadata={"help": "for a store of pixels: the backbone's last feature map, or its mean"},
    )
    image_backbone_weights: str = field(
        default=IMAGENET,
        metadata={
            "help": "for a store of pixels: the weights that the backbone starts from: imagenet "
            "(torchvision's download), none (random) or the file of a state dict"
        },
    )
    image_finetune_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "train the backbone too, from this layer on, such as layer4 of resnet18, or "
            "all; without it the backbone is frozen"
        },
    )
    image_lr_factor: float = field(
        default=0.1,
        metadata={"help": "learning rate of the backbone, relative to that of the other weights"},
    )
    seed: int = II("common.seed")


FROM_CHECKPOINT = "checkpoint"
"""the `image_backbone_weights` of a model that is about to be given those of its checkpoint"""

BACKBONE = "image_backbone"
"""the `param_group` of the backbone's weights, by which an optimiser can tell them"""


def reads_images(cfg: CrossModalRNNConfig) -> bool:
    """Whether the model has a fusion: whether the task has told it of features or pictures."""
    return bool(cfg.image_feature_size or cfg.image_size)


def setting_problems(cfg: CrossModalRNNConfig, task) -> List[str]:
    """What is wrong with the model's settings for this task, one line each."""
    found = []
    for name in ("dropout", "embed_dropout", "attention_dropout", "fusion_dropout"):
        if not 0 <= getattr(cfg, name) < 1:
            flag = "--" + name.replace("_", "-")
            found.append(f"{flag} {getattr(cfg, name)} must be at least 0 and below 1")
    for side in ("source", "target"):
        if getattr(task.cfg, f"left_pad_{side}", False):
            found.append(
                f"it reads {side} sentences that are padded on the right, but this task pads "
                "them on the left. Use --task multimodal_translation, without "
                f"--left-pad-{side}."
            )
    if cfg.share_all_embeddings:
        if task.source_dictionary != task.target_dictionary:
            found.append(
                f"--share-all-embeddings needs one joint dictionary, but the source has "
                f"{len(task.source_dictionary)} symbols and the target "
                f"{len(task.target_dictionary)}, and they differ. Binarise with "
                "fairseq-preprocess --joined-dictionary."
            )
        if cfg.encoder_embed_dim != cfg.decoder_embed_dim:
            found.append(
                f"--share-all-embeddings needs equal widths, not --encoder-embed-dim "
                f"{cfg.encoder_embed_dim} and --decoder-embed-dim {cfg.decoder_embed_dim}"
            )
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
    if cfg.image_finetune_from is not None and not cfg.image_size:
        found.append(
            f"--image-finetune-from {cfg.image_finetune_from} needs pictures: give --image-h5 a "
            "store that preprocess/extract_features.py --raw made"
        )
    if cfg.image_lr_factor <= 0:
        found.append(
            f"--image-lr-factor {cfg.image_lr_factor} must be above 0; to freeze the backbone, "
            "leave out --image-finetune-from"
        )
    if reads_images(cfg) and cfg.fusion_heads < 1:
        found.append(f"--fusion-heads {cfg.fusion_heads} must be at least 1")
    elif reads_images(cfg) and cfg.fusion_dim % cfg.fusion_heads:
        found.append(
            f"--fusion-heads {cfg.fusion_heads} does not divide --fusion-dim {cfg.fusion_dim}"
        )
    return found


class ScaledEmbedding(nn.Embedding):
    """Embeddings times the root of their width (Vaswani et al. 2017, section 3.4).

    The matrix also serves as the output layer, which wants entries of a standard deviation of
    1 / sqrt(d); what the network reads has one of 1. Unscaled, a recurrent network hardly hears its
    input at first, and training at 1,000 pairs takes several times as many epochs.

    Args:
        dictionary: fairseq's dictionary.
        size: width d.
    """

    def __init__(self, dictionary, size: int):
        super().__init__(len(dictionary), size, padding_idx=dictionary.pad())
        self.scale = math.sqrt(size)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)
        with torch.no_grad():
            self.weight[self.padding_idx].fill_(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N) -> (B, N, d)."""
        return super().forward(tokens) * self.scale


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
        weight.param_group = BACKBONE
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
        """
        mask = src_tokens.ne(self.dictionary.pad())  # (B, S)
        x = F.dropout(self.embed_tokens(src_tokens), self.embed_dropout, self.training)
        maps = {}
        if self.fusion is not None:
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
            x = self.recurrence(x, mask.sum(dim=1))  # (B, S, H)
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
        memory, memory_mask = encoder_out["memory"], encoder_out["mask"]
        state = None
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
            state = self._cached_state(incremental_state)
        if state is None:
            state = self.recurrence.initial_state(memory, memory_mask)
        x = F.dropout(self.embed_tokens(prev_output_tokens), self.embed_dropout, self.training)
        x, state, weights = self.recurrence(x, state, memory, memory_mask)
        x = F.dropout(x, self.dropout, self.training)
        if incremental_state is not None:
            named = {f"state{i}": part for i, part in enumerate(state)}
            self.set_incremental_state(incremental_state, "rnn", named)
        extra = {"attn": [weights.mean(dim=1)]}
        if need_maps:
            target_mask = prev_output_tokens.ne(self.dictionary.pad())
            extra["maps"] = {"cross": weights}
            extra["map_masks"] = {"cross": (target_mask, memory_mask)}
            if "fusion_map" in encoder_out:
                extra["maps"]["fusion"] = encoder_out["fusion_map"]
                extra["map_masks"]["fusion"] = (memory_mask, encoder_out["image_mask"])
        return x, extra

    def output_layer(self, features: Tensor) -> Tensor:
        """(B, T, d) -> logits (B, T, V)."""
        return self.output_projection(features)

    def _cached_state(self, incremental_state):
        cached = self.get_incremental_state(incremental_state, "rnn")
        return None if cached is None else tuple(cached[name] for name in sorted(cached))

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Follow a beam search that keeps, drops or repeats hypotheses: new_order is (B',)."""
        cached = self.get_incremental_state(incremental_state, "rnn")
        if cached is not None:
            moved = {name: part.index_select(1, new_order) for name, part in cached.items()}
            self.set_incremental_state(incremental_state, "rnn", moved)

    def max_positions(self) -> int:
        return MAX_POSITIONS


@register_model("cross_modal_rnn", dataclass=CrossModalRNNConfig)
class CrossModalRNNModel(FairseqEncoderDecoderModel):
    """CAF-DKD's translator: FFN([X ; MultiHeadAttention(X, image)]), an RNN, an RNN decoder.

    Without images there is no fusion and it is a plain RNN translator.
    """

    @classmethod
    def build_model(cls, cfg: CrossModalRNNConfig, task):
        """Build the model for a task.

        Raises:
            ValueError: settings that contradict each other, all of them in one message.
        """
        if isinstance(cfg, DictConfig):
            # fairseq does so itself, but not for a checkpoint that names a preset: a field that is
            # newer than the checkpoint gets its default
            cfg = merge_with_parent(CrossModalRNNConfig(), cfg)
        problems = setting_problems(cfg, task)
        if problems:
            raise ValueError("cross_modal_rnn:\n" + "\n".join(f"- {line}" for line in problems))
        source, target = task.source_dictionary, task.target_dictionary
        source_embeddings = ScaledEmbedding(source, cfg.encoder_embed_dim)
        target_embeddings = (
            source_embeddings
            if cfg.share_all_embeddings
            else ScaledEmbedding(target, cfg.decoder_embed_dim)
        )
        encoder = CrossModalRNNEncoder(cfg, source, source_embeddings)
        decoder = CrossModalRNNDecoder(cfg, target, target_embeddings, encoder.output_size)
        return cls(encoder, decoder)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        image_features: Optional[Tensor] = None,
        image_mask: Optional[Tensor] = None,
        images: Optional[Tensor] = None,
        need_maps: bool = False,
    ):
        """Teacher-forced pass; arguments and result as in encoder and decoder."""
        encoder_out = self.encoder(
            src_tokens, src_lengths, image_features, image_mask, images, need_maps
        )
        return self.decoder(prev_output_tokens, encoder_out, need_maps=need_maps)


def apply_preset(settings, **preset) -> None:
    """Give each field of a preset that --arch leaves open its value, and name the model itself.

    So a checkpoint names the model and has every value written out. fairseq calls a preset again when
    it builds a model whose settings still name one. By then every field has a value: in the
    checkpoint of an earlier version the preset's, but fairseq-hydra-train knows no presets.

    Args:
        settings: the parsed command line, or the settings of the model to build.
        preset: the fields and their values.

    Raises:
        ValueError: the preset is named, but its fields have the model's defaults.
    """
    if isinstance(settings, Namespace):
        for name, value in preset.items():
            setattr(settings, name, getattr(settings, name, value))
        settings.arch = "cross_modal_rnn"
        return
    ignored = [
        f"{name} is {getattr(CrossModalRNNConfig, name)}, not {value}"
        for name, value in preset.items()
        if getattr(settings, name, None) == getattr(CrossModalRNNConfig, name)
    ]
    if ignored:
        fields = ", ".join(f"{name}: {value}" for name, value in preset.items())
        raise ValueError(
            f"the preset {settings._name} has no effect in a YAML, only with --arch: "
            f"{'; '.join(ignored)}. Write the model out, as in examples/quickstart/configs: "
            f"model: {{_name: cross_modal_rnn, {fields}}}"
        )


@register_model_architecture("cross_modal_rnn", "cross_modal_rnn_tiny")
def cross_modal_rnn_tiny(settings):
    """Half the width: for a few thousand short sentences, as in the demo."""
    apply_preset(
        settings,
        encoder_embed_dim=128,
        encoder_hidden_size=128,
        decoder_embed_dim=128,
        decoder_hidden_size=128,
        fusion_dim=128,
        fusion_ffn_dim=256,
    )


@register_model_architecture("cross_modal_rnn", "cross_modal_rnn_paper")
def cross_modal_rnn_paper(settings):
    """The paper's literal encoder and listing: no recurrence, one head, attention of width 128."""
    apply_preset(settings, encoder_layers=0, fusion_dim=128, fusion_heads=1)
