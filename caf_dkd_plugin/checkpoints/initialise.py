"""Give a new model what fits it of a trained one, such as a text-only model of the same data."""

import logging
import re
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..data.dictionaries import first_difference, symbols
from .fairseq_lstm import (
    NO_COUNTERPART,
    QUERY,
    SOURCE_EMBEDDING,
    TARGET_EMBEDDING,
    TARGET_READER,
    Offer,
    is_fairseq_lstm,
    offers_of_lstm,
)
from .load import CheckpointError, PathLike, load_checkpoint
from .model_settings import (
    FUSION,
    RNN,
    TRANSFORMER,
    architecture,
    differences,
    foreign_problems,
    image_settings,
    text_settings,
)

BACKBONE = "encoder.backbone."
OWN_TENSOR = {RNN: QUERY, TRANSFORMER: "decoder.layers.0.encoder_attn.q_proj.weight"}
"""what only the state dict of that architecture has, and of fairseq's that has its names"""
FAIRSEQS = {RNN: "lstm", TRANSFORMER: "transformer"}
"""from which of fairseq's architectures it can start"""
COPIES = r"encoder\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)"
"""what fairseq 0.12.2's Transformer has twice"""

logger = logging.getLogger(__name__)


class Initialisation(NamedTuple):
    """What came of it; as a string it is a report for people."""

    path: str
    taken: Dict[str, str]
    """tensor of the model -> where it is from"""
    left: Dict[str, str]
    """tensor of the checkpoint -> why it was not taken"""
    zeroed: List[str]
    """tensors of the model that are zero now, so that the fusion adds nothing at first"""
    kept: List[str]
    """tensors of the model that stay as they were built"""
    believed: List[str]
    """what could not be checked"""

    def __str__(self) -> str:
        count = len(self.taken) + len(self.zeroed) + len(self.kept)
        return "\n".join(
            [
                f"{self.path}: {len(self.taken)} of the model's {count} tensors were taken from it",
                *(f"- taken: {name}{origin}" for name, origin in self.taken.items()),
                *(f"- not taken: {name}: {reason}" for name, reason in self.left.items()),
                *(
                    f"- zero, so that the fusion adds nothing at first: {name}"
                    for name in self.zeroed
                ),
                *(f"- stays as it was built: {name}" for name in _shortened(self.kept)),
                *(f"- believed: {line}" for line in self.believed),
            ]
        )


def _shortened(names: List[str]) -> List[str]:
    """Tensors of the backbone, which may be hundreds, in one line."""
    of_backbone = [name for name in names if name.startswith(BACKBONE)]
    others = [name for name in names if name not in of_backbone]
    return [*others, f"{BACKBONE}* ({len(of_backbone)} tensors)"] if of_backbone else others


def initialise(
    model: nn.Module, path: PathLike, images: Optional[Dict[str, str]] = None
) -> Initialisation:
    """Copy into a model what fits it of a checkpoint, and log what that was.

    The checkpoint is of the model's architecture, with or without images, or of fairseq's counterpart:
    lstm for a cross_modal_rnn (see :mod:`.fairseq_lstm`), transformer for a cross_modal_transformer,
    which has the same tensors. What fits is what has the same name and shape, with two exceptions.
    When two cross_modal_rnn differ in input feeding, the decoder's first layer takes the columns that
    read the embedding, and those that read the last result become zero, so that it starts as it was
    without. When no fusion can be taken and the model has one with a residual, the last layer of that
    becomes zero, so that the model starts as the text-only one. A backbone is taken whole or not at all.

    Args:
        model: a freshly built cross_modal_rnn or cross_modal_transformer.
        path: the checkpoint.
        images: the description of the model's image store; a fusion that has learned to read
            images of another kind is not taken. None: no such check.

    Raises:
        CheckpointError: the checkpoint cannot be loaded, has another architecture or other
            dictionaries, or nothing of it fits. The model is unchanged then.
    """
    here = model.state_dict(keep_vars=True)  # so that tied tensors are the same object
    if not hasattr(model.encoder, "fusion"):
        raise CheckpointError(
            [
                f"only a {RNN} or a {TRANSFORMER} can start from {path}, and not a "
                f"{type(model).__name__}"
            ]
        )
    state = load_checkpoint(path)
    offers = _offers(state, model, here, path)
    _compare_settings(state, model, path)
    believed = _compare_dictionaries(state, model, path)
    reasons = {name: _why_not(name, offers, here) for name in offers}
    reasons.update(_foreign_fusion(offers, state, images))
    reasons.update(_other_fusion(offers, state, model))
    reasons.update(_foreign_backbone(offers, state, model, here, reasons))
    taken = {name: offer for name, offer in offers.items() if reasons[name] is None}
    left = {
        origin: _why_left(origin, offers, reasons)
        for origin in state["model"]
        if origin not in {offer.origin for offer in taken.values()}
    }
    if not taken:
        raise CheckpointError(
            [f"nothing of {path} fits this model"]
            + [f"{origin}: {reason}" for origin, reason in left.items()]
        )
    zeroed = _last_of_fusion(model, taken)
    with torch.no_grad():
        for name, offer in taken.items():
            here[name].copy_(offer.value)
        for name in zeroed:
            here[name].zero_()
    report = Initialisation(
        path=str(path),
        taken={name: _origin_in_words(name, offer) for name, offer in taken.items()},
        left=left,
        zeroed=zeroed,
        kept=[name for name in here if name not in taken and name not in zeroed],
        believed=believed,
    )
    logger.info(report)
    return report


def _offers(
    state: Dict[str, Any], model: nn.Module, here: Dict[str, Tensor], path: PathLike
) -> Dict[str, Offer]:
    """What the checkpoint has for each tensor of the model.

    Raises:
        CheckpointError: it has another architecture.
    """
    weights = state["model"]
    kind = next(name for name, tensor in OWN_TENSOR.items() if tensor in here)
    if OWN_TENSOR[kind] in weights:
        offers = {name: Offer(name, value) for name, value in weights.items() if name in here}
    elif kind == RNN and is_fairseq_lstm(weights):
        scales = {
            SOURCE_EMBEDDING: model.encoder.embed_tokens.scale,
            TARGET_EMBEDDING: model.decoder.embed_tokens.scale,
        }
        offers = offers_of_lstm(weights, here, scales, model.decoder.recurrence.heads)
    else:
        raise CheckpointError(
            [
                f"{path} has the architecture {architecture(state)}; a {kind} can start from a "
                f"{kind} or from fairseq's {FAIRSEQS[kind]}"
            ]
        )
    if kind == RNN:
        _adapt_feeding(offers, here)
    return offers


def _compare_settings(state: Dict[str, Any], model: nn.Module, path: PathLike) -> None:
    """Refuse a model whose weights fit, but would do something else here.

    Raises:
        CheckpointError: everything in which they differ.
    """
    problems = [
        f"{path} has {option} {there}, this model {here}, and the weights fit only one of them: give "
        f"{option} {there}"
        for option, there, here in differences(state, text_settings(model))
    ]
    problems += foreign_problems(state, path)
    if problems:
        raise CheckpointError(problems)


def _compare_dictionaries(state: Dict[str, Any], model: nn.Module, path: PathLike) -> List[str]:
    """What has to be believed, since only checkpoints of our task tell their symbols.

    Raises:
        CheckpointError: a dictionary differs.
    """
    problems, believed = [], []
    for side, dictionary, embedding in (
        ("source", model.encoder.dictionary, SOURCE_EMBEDDING),
        ("target", model.decoder.dictionary, TARGET_EMBEDDING),
    ):
        here, there = symbols(dictionary), state.get("task_state", {}).get(f"{side}_symbols")
        count = len(state["model"][embedding])
        difference = None
        if there is not None:
            difference = first_difference(there, here)
        elif count != len(here):
            difference = f"the first has {count} symbols, the second {len(here)}"
        else:
            believed.append(
                f"the checkpoint does not tell its {count} {side} symbols: they must be those of DATA "
                "in the same order"
            )
        if difference:
            problems.append(
                f"{path} was trained with another {side} dictionary than that of DATA (first: "
                f"checkpoint, second: DATA): {difference}. Binarise DATA with its dictionaries "
                "(fairseq-preprocess --srcdict --tgtdict)."
            )
    if problems:
        raise CheckpointError(problems)
    return believed


def _adapt_feeding(offers: Dict[str, Offer], here: Dict[str, Tensor]) -> None:
    """Let the decoder's first layer read what it reads here, where only the last result differs."""
    offer, wanted = offers[TARGET_READER], here[TARGET_READER]
    width = offers[TARGET_EMBEDDING].value.size(1)
    same_embedding = width == here[TARGET_EMBEDDING].size(1)
    same_layer = len(offer.value) == len(wanted)
    if same_embedding and same_layer and offer.value.shape != wanted.shape:
        value = torch.zeros_like(wanted)
        value[:, :width] = offer.value[:, :width]
        rest = ", zero for the last result" if wanted.size(1) > width else ""
        changes = [offer.change, f"only what reads the embedding{rest}"]
        offers[TARGET_READER] = offer._replace(value=value, change="; ".join(filter(None, changes)))


def _why_not(name: str, offers: Dict[str, Offer], here: Dict[str, Tensor]) -> Optional[str]:
    """Why an offer cannot be taken; None when it can."""
    value, wanted = offers[name].value, here[name]
    if value.shape != wanted.shape:
        return f"its shape is {tuple(value.shape)}, {name} has {tuple(wanted.shape)}"
    tied = [other for other in offers if here[other] is wanted]
    if not all(torch.equal(offers[other].value, value) for other in tied):
        return f"the model has one matrix for {', '.join(tied)}, the checkpoint different ones"
    return None


def _foreign_fusion(
    offers: Dict[str, Offer], state: Dict[str, Any], images: Optional[Dict[str, str]]
) -> Dict[str, str]:
    """Why the fusion of a checkpoint cannot be taken, tensor by tensor: other images."""
    there = state.get("task_state", {}).get("images")
    if images is None or there is None or images == there:
        return {}
    unequal = [f"{key} {there.get(key)!r}" for key in images if images[key] != there.get(key)]
    reason = f"it has learned to read images of another kind: {', '.join(unequal)}"
    return {name: reason for name in offers if name.startswith(FUSION)}


def _other_fusion(
    offers: Dict[str, Offer], state: Dict[str, Any], model: nn.Module
) -> Dict[str, str]:
    """Why the fusion of a checkpoint cannot be taken: its weights mean something else here."""
    fusion = model.encoder.fusion
    if fusion is None:
        return {}
    unequal = [
        f"{option} {there} there, {here} here"
        for option, there, here in differences(state, fusion.settings())
    ]
    if not unequal:
        return {}
    reason = f"its weights mean something else with other settings: {', '.join(unequal)}"
    return {name: reason for name in offers if name.startswith(FUSION)}


def _foreign_backbone(
    offers: Dict[str, Offer],
    state: Dict[str, Any],
    model: nn.Module,
    here: Dict[str, Tensor],
    reasons: Dict[str, Optional[str]],
) -> Dict[str, str]:
    """Why a backbone, and the fusion that has learned to read it, cannot be taken: it is another one."""
    names = (here, state["model"])
    mine, theirs = ({n for n in each if n.startswith(BACKBONE)} for each in names)
    layer = {k: v for k, v in image_settings(model).items() if k == "image_backbone_layer"}
    same = mine == theirs and not differences(state, layer)
    if same and not any(reasons[name] for name in mine):
        return {}
    reason = "the two have not the same backbone, whose weights and what reads them belong together"
    return {name: reason for name in offers if name.startswith((BACKBONE, FUSION))}


def _last_of_fusion(model: nn.Module, taken: Dict[str, Offer]) -> List[str]:
    """The last layer of a fusion with a residual, of which nothing was taken."""
    fusion = model.encoder.fusion
    if fusion is None or not fusion.residual or any(name.startswith(FUSION) for name in taken):
        return []
    last = len(fusion.ffn) - 1
    return [f"{FUSION}ffn.{last}.{name}" for name, _ in fusion.ffn[last].named_parameters()]


def _why_left(origin: str, offers: Dict[str, Offer], reasons: Dict[str, Optional[str]]) -> str:
    for name, offer in offers.items():
        if offer.origin == origin:
            return reasons[name]
    for pattern, reason in NO_COUNTERPART.items():
        if re.fullmatch(pattern, origin):
            return reason
    if re.fullmatch(COPIES, origin):
        return "fairseq 0.12.2 has the layer's weights twice"
    return "the model has nothing like it"


def _origin_in_words(name: str, offer: Offer) -> str:
    origin = "" if offer.origin == name else f" from {offer.origin}"
    return origin + (f" ({offer.change})" if offer.change else "")
