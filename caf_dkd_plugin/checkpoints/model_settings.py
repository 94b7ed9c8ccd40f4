"""What a checkpoint's weights mean, beyond their shapes: the settings of its model."""

from argparse import Namespace
from typing import Any, Dict, List, NamedTuple

from torch import nn

from .load import PathLike, load_checkpoint

FUSION = "encoder.fusion."
RNN, TRANSFORMER = "cross_modal_rnn", "cross_modal_transformer"
NOT_IN_THE_SHAPES = {
    RNN: ("decoder_attention_heads",),
    TRANSFORMER: (
        "encoder_attention_heads",
        "decoder_attention_heads",
        "encoder_normalize_before",
        "decoder_normalize_before",
        "activation_fn",
    ),
}
"""settings of the text part without which the weights mean something else"""
ONLY_FAIRSEQS = (
    "no_scale_embedding",
    "no_token_positional_embeddings",
    "encoder_learned_pos",
    "decoder_learned_pos",
    "layernorm_embedding",
    "cross_self_attention",
)
"""settings of fairseq's Transformer that a cross_modal_transformer does not have"""


def settings_of(state: Dict[str, Any]) -> Dict[str, Any]:
    """Those of the checkpoint's model; empty where it has none."""
    settings = state["cfg"]["model"] if state.get("cfg") else state.get("args")
    return vars(settings) if isinstance(settings, Namespace) else settings or {}


def architecture(state: Dict[str, Any]) -> str:
    """That of the checkpoint's model, for people."""
    settings = settings_of(state)
    return settings.get("arch") or settings.get("_name") or "of an unknown name"


def text_settings(model: nn.Module) -> Dict[str, Any]:
    """Of a cross_modal_rnn or cross_modal_transformer, by their names :data:`NOT_IN_THE_SHAPES`."""
    if hasattr(model.encoder, "cfg"):
        return {name: getattr(model.encoder.cfg, name) for name in NOT_IN_THE_SHAPES[TRANSFORMER]}
    return dict.fromkeys(NOT_IN_THE_SHAPES[RNN], model.decoder.recurrence.heads)


def image_settings(model: nn.Module) -> Dict[str, Any]:
    """The same of what reads images; nothing where nothing does."""
    found, backbone = {}, model.encoder.backbone
    if model.encoder.fusion is not None:
        found.update(model.encoder.fusion.settings())
    if backbone is not None:
        found["image_backbone_layer"] = backbone.layer
    return found


class Difference(NamedTuple):
    """A setting that a checkpoint's model has otherwise."""

    option: str
    there: Any
    """in the checkpoint"""
    here: Any


def differences(state: Dict[str, Any], here: Dict[str, Any]) -> List[Difference]:
    """Which of some settings, by their names, the checkpoint's model has otherwise."""
    there = settings_of(state)
    return [
        Difference(f"--{name.replace('_', '-')}", there[name], value)
        for name, value in here.items()
        if name in there and there[name] != value
    ]


def foreign_problems(state: Dict[str, Any], path: PathLike) -> List[str]:
    """Which settings of a checkpoint of fairseq's no model of ours can have, one line each."""
    return [
        f"{path} was trained with --{name.replace('_', '-')}, which this model cannot have, and its weights "
        "mean something else without"
        for name in ONLY_FAIRSEQS
        if settings_of(state).get(name)
    ]


def going_on_problems(path: PathLike, model: nn.Module) -> List[str]:
    """Why a model cannot have all weights of a checkpoint, one line each.

    fairseq loads them wherever names and shapes agree, and says no more than that they do not.

    Args:
        path: of the checkpoint.
        model: one of fairseq's, of which nothing is asked, or of ours.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    if not hasattr(model.encoder, "fusion"):
        return []
    state, fusion = load_checkpoint(path), model.encoder.fusion
    had_images = any(name.startswith(FUSION) for name in state["model"])
    if had_images != (fusion is not None):
        there, here = ("reads", "none") if had_images else ("reads no", "some")
        return [f"{path} has a model that {there} images, and this one is to read {here}"]
    settings = {**text_settings(model), **image_settings(model)}
    return foreign_problems(state, path) + [
        f"{path} was trained with {option} {there}, not {here}, and its weights mean something else with "
        "that"
        for option, there, here in differences(state, settings)
    ]
