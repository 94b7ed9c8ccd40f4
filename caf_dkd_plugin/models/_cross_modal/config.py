"""The settings that the cross-modal architectures have in common, and what can be wrong with them."""

from dataclasses import dataclass, field
from typing import List, Optional, Sequence

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from ...modules.cross_modal_fusion import BOTH, TEXT_TO_IMAGE
from ...modules.visual_backbone import FROM_CHECKPOINT, IMAGENET, LAYERS


@dataclass
class CrossModalConfig(FairseqDataclass):
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


def reads_images(cfg: CrossModalConfig) -> bool:
    """Whether the model has a fusion: whether the task has told it of features or pictures."""
    return bool(cfg.image_feature_size or cfg.image_size)


def dropout_problems(cfg: CrossModalConfig, names: Sequence[str]) -> List[str]:
    """Which of these rates are no probabilities, one line each."""
    return [
        f"--{name.replace('_', '-')} {getattr(cfg, name)} must be at least 0 and below 1"
        for name in names
        if not 0 <= getattr(cfg, name) < 1
    ]


def text_problems(cfg: CrossModalConfig, task) -> List[str]:
    """What is wrong with padding and embeddings for this task, one line each."""
    found = []
    settings = (
        task.args if task.cfg is None else task.cfg
    )  # older tasks have the former, with strings
    for side in ("source", "target"):
        if str(getattr(settings, f"left_pad_{side}", False)) == "True":
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
    return found


def image_problems(cfg: CrossModalConfig) -> List[str]:
    """What is wrong with backbone and fusion, one line each."""
    found = []
    if cfg.image_finetune_from is not None and not cfg.image_size:
        found.append(
            f"--image-finetune-from {cfg.image_finetune_from} needs pictures: give --image-h5 a "
            "store that preprocess/extract_features.py --raw made"
        )
    if not cfg.image_size:
        found += [
            f"--{name.replace('_', '-')} {getattr(cfg, name)} has no effect: it is for a store of "
            "pixels. Leave it out."
            for name in ("image_backbone", "image_backbone_layer", "image_backbone_weights")
            if getattr(cfg, name) not in (getattr(CrossModalConfig, name), FROM_CHECKPOINT)
        ]
    if cfg.image_finetune_from is None and cfg.image_lr_factor != CrossModalConfig.image_lr_factor:
        found.append(
            f"--image-lr-factor {cfg.image_lr_factor} has no effect without --image-finetune-from"
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
