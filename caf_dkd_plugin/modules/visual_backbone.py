"""Torchvision's classification networks as readers of image features.

Letters: B images, H and W pixels, R regions (the positions of the last feature map, row by row), D
feature size.
"""

import difflib
import hashlib
import os
import pickle
import re
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

# torchvision takes a second to import, so it is imported where a network is made: the plugin's
# architectures import this module, and most models read no pictures.

LAYERS = ("grid", "global")
IMAGENET = "imagenet"
RANDOM = "none"
WHOLE = "all"
FROM_CHECKPOINT = "checkpoint"
"""the weights of a model that is about to be given those of its checkpoint"""
IMAGE_BACKBONE = "image_backbone"
"""the `param_group` of a backbone's weights in a model, by which an optimiser can tell them"""
IMAGENET_VERSION = "IMAGENET1K_V1"  # not DEFAULT, which torchvision moves to newer weights
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

_HEADS = ("avgpool", "classifier", "fc", "head")  # what torchvision calls the part after the map
_PROBE_SIZE = 224
_CALIBRATION_BATCH = 8
_SHOWN = 3


class BackboneError(ValueError):
    """The network or its weights cannot be had; the message says why and what to do."""


class VisualBackbone(nn.Module):
    """A torchvision network without its head, always in eval mode, and frozen at first.

    The map is found by looking at the network's graph: it is the last feature map that has a height
    and a width, before pooling and classifier. Networks without one, which end in a sequence of tokens
    (vision transformers), are refused.

    Args:
        name: a classification network of torchvision, such as "resnet18".
        layer: "grid" for the map, R = H' x W' regions; "global" for its mean, R = 1. The mean is
            what most of these networks classify by; for those that flatten the map instead (VGG,
            AlexNet) it is still the mean.
        weights: "imagenet" (torchvision's IMAGENET1K_V1, downloaded once), "none" (random, from
            `seed`), the path of a state dict, or None to leave them to a checkpoint loaded later.
        seed: of the random weights.

    Raises:
        BackboneError: unknown or unsuitable network, unknown layer, weights that are not there, do
            not load safely or do not fit.
    """

    def __init__(self, name: str, layer: str, weights: Optional[str], seed: int):
        from torchvision.models.feature_extraction import create_feature_extractor

        super().__init__()
        if layer not in LAYERS:
            raise BackboneError(f"layer {layer!r} is unknown; choose one of {', '.join(LAYERS)}")
        self.name = name
        self.layer = layer
        self.weights_in_words = _weights_in_words(weights, seed)
        """what a reader, or :func:`weights_from_words`, can find the weights by"""
        network = _build_network(name, weights, seed)
        self.weights_sha256 = state_dict_sha256(network.state_dict())
        """over all of the network's state dict; of random weights as drawn, so before calibration"""
        if weights == RANDOM:
            _calibrate_batch_norm(network, seed)
        node, self.feature_dim = _find_map(network, name)
        self.body = create_feature_extractor(network, {node: "map"}, suppress_diff_warning=True)
        for attribute, values in (("mean", PIXEL_MEAN), ("std", PIXEL_STD)):
            tensor = torch.tensor(values).view(3, 1, 1)
            self.register_buffer(f"pixel_{attribute}", tensor, persistent=False)
        self.requires_grad_(False)
        self.eval()

    def finetune_from(self, layer: str) -> None:
        """Make the weights trainable from a layer of the network on, in the order of the forward pass.

        Args:
            layer: name of a module of the network, such as "layer4" of a resnet or "features.17"
                of a mobilenet_v2, or "all".

        Raises:
            BackboneError: no module that runs has that name, or none from there on has weights.
        """
        run = [n.target for n in self.body.graph.nodes if n.op in ("call_module", "get_attr")]
        late = run
        if layer != WHOLE:
            first = next((k for k, name in enumerate(run) if _is_within(name, layer)), None)
            if first is None:
                layers = ", ".join(dict.fromkeys(map(_upper_layer, run)))
                raise BackboneError(
                    f"{self.name} has no layer {layer!r}; it has {layers}, or {WHOLE!r}"
                )
            late = run[first:]
        for name, weight in self.body.named_parameters():
            weight.requires_grad_(any(_is_within(name, part) for part in late))
        if not any(weight.requires_grad for weight in self.parameters()):
            raise BackboneError(
                f"{self.name} has no weights from {layer} on to fine-tune; choose an earlier layer"
            )

    def train(self, mode: bool = True) -> "VisualBackbone":
        """Stay in eval mode: the BatchNorm statistics are the pretrained ones."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pictures.

        Args:
            pixels: (B, 3, H, W), RGB, 0 to 255.

        Returns:
            (B, R, D), where R is 1 for "global".
        """
        x = (pixels.to(self.pixel_mean.dtype) / 255 - self.pixel_mean) / self.pixel_std
        grid = self.body(x)["map"].flatten(2).transpose(1, 2)  # (B, R, D)
        return grid if self.layer == "grid" else grid.mean(dim=1, keepdim=True)

    @torch.no_grad()
    def row_shape(self, image_size: int) -> Tuple[int, int]:
        """(R, D) of a picture of `image_size` x `image_size` pixels.

        Raises:
            BackboneError: the network cannot read pictures of that size.
        """
        pixels = self.pixel_mean.new_zeros(1, 3, image_size, image_size)
        try:
            _, regions, features = self(pixels).shape
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"{self.name} cannot read pictures of {image_size} x {image_size} pixels ({error}); "
                f"choose another image size, such as {_PROBE_SIZE}"
            ) from error
        return regions, features


def normalising_in_words() -> str:
    """What :meth:`VisualBackbone.forward` does to pixels before the network sees them."""
    return f"scaled to 0..1, minus {PIXEL_MEAN}, over {PIXEL_STD}"


def weights_from_words(words: str) -> Tuple[Optional[str], int]:
    """The `weights` and `seed` that :class:`VisualBackbone` was given, from its `weights_in_words`.

    Returns:
        `weights` is None when they were those of a file, whose folder nobody has recorded.
    """
    if words == _weights_in_words(IMAGENET, 0):
        return IMAGENET, 0
    seed = re.fullmatch(re.escape(RANDOM) + r" \(seed (\d+)\)", words)
    return (RANDOM, int(seed[1])) if seed else (None, 0)


def state_dict_sha256(state: Dict[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _weights_in_words(weights: Optional[str], seed: int) -> str:
    if weights is None:
        return "of a checkpoint"
    if weights == IMAGENET:
        return f"{IMAGENET} ({IMAGENET_VERSION})"
    return f"{RANDOM} (seed {seed})" if weights == RANDOM else os.path.basename(weights)


def _is_within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def _upper_layer(name: str) -> str:
    """What one would fine-tune from: "layer4" of layer4.0.conv1, "features.17" of features.17.conv."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "features" and rest else first


def _build_network(name: str, weights: Optional[str], seed: int) -> nn.Module:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=_SHOWN)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise BackboneError(f"torchvision has no classification network {name!r}; {hint}")
    if weights == IMAGENET:
        return _imagenet_network(name).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.get_model(name, weights=None)
    if weights not in (None, RANDOM):
        _load_weights(network, name, weights)
    return network.eval()


def _imagenet_network(name: str) -> nn.Module:
    import torchvision

    versions = torchvision.models.get_model_weights(name)
    if IMAGENET_VERSION not in versions.__members__:
        raise BackboneError(
            f"torchvision has no {IMAGENET_VERSION} weights for {name}; give a file instead"
        )
    weights = versions[IMAGENET_VERSION]
    try:
        return torchvision.models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"the ImageNet weights of {name} could not be downloaded from {weights.url} ({error}). "
            "Fetch that address on a machine that has access, and give the file as the weights, or "
            f"put it into {os.path.join(torch.hub.get_dir(), 'checkpoints')}."
        ) from error


def _load_weights(network: nn.Module, name: str, path: str) -> None:
    """Load a state dict, strictly and without running anything the file may carry."""
    if not os.path.isfile(path):
        raise BackboneError(
            f"there is no weights file {path}; give a file, {IMAGENET!r} or {RANDOM!r}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BackboneError(
            f"{path} is not a plain state dict, or holds more than tensors, which is refused because "
            f"it could run code: {_first_line(error)}. Save `network.state_dict()` alone."
        ) from error
    except Exception as error:  # torch lets many types through for files of other formats
        raise BackboneError(f"{path} is not a readable weights file: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BackboneError(f"{path} does not hold a state dict (names and tensors, nothing else)")
    problems = _mismatches(network.state_dict(), state)
    if problems:
        raise BackboneError(f"{path} does not fit {name}: {'; '.join(problems)}")
    network.load_state_dict(state)


def _mismatches(expected: Dict[str, Tensor], found: Dict[str, Tensor]) -> List[str]:
    lists = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in expected
            if key in found and found[key].shape != expected[key].shape
        ],
    }
    return [
        f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})"
        for what, keys in lists.items()
        if keys
    ]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


@torch.no_grad()
def _calibrate_batch_norm(network: nn.Module, seed: int) -> None:
    """Set the BatchNorm statistics of random weights to those of noise pictures.

    With the statistics of a new network (mean 0, variance 1) the values of a deep one grow or fade
    by orders of magnitude. The noise has, like photographs, as much contrast in coarse as in fine
    detail.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    generator = torch.Generator().manual_seed(seed)
    octaves = [
        torch.randn(
            _CALIBRATION_BATCH, 3, _PROBE_SIZE // step, _PROBE_SIZE // step, generator=generator
        )
        for step in (1, 2, 4, 8, 16, 32)
    ]
    pictures = sum(nn.functional.interpolate(o, size=_PROBE_SIZE, mode="bilinear") for o in octaves)
    pictures = pictures / pictures.std()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become the batch's
        norm.train()
    network(pictures)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()


@torch.no_grad()
def _find_map(network: nn.Module, name: str) -> Tuple[str, int]:
    """The graph node of the last feature map before the head, and its feature size D."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes = get_graph_node_names(network, suppress_diff_warning=True)[1][1:]  # without the input
    probe = create_feature_extractor(network, nodes, suppress_diff_warning=True)
    outputs = probe(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))
    for node, value in reversed(outputs.items()):
        if node.startswith(_HEADS) or not isinstance(value, Tensor):
            continue
        if value.dim() == 4 and min(value.shape[2:]) > 1:
            return node, value.shape[1]
        if value.dim() == 3:  # a sequence of tokens
            break
    raise BackboneError(
        f"{name} does not end in a feature map of positions, so it has no regions to read; choose a "
        "convolutional network, such as resnet18"
    )
