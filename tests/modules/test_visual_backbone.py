"""Feature reading against the networks' own parts, and every error message."""

from collections import OrderedDict
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch.nn import functional

from caf_dkd_plugin.modules.visual_backbone import (
    BackboneError,
    VisualBackbone,
    state_dict_sha256,
    weights_from_words,
)

SMALL = "mobilenet_v3_small"


def pictures(size=64, count=2):
    """(B, 3, H, W) uint8: blobs, smooth like photographs."""
    noise = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(3)) * 255
    return functional.interpolate(noise, size=size, mode="bilinear").to(torch.uint8)


def normalised(pixels):
    return torchvision.transforms.functional.normalize(
        pixels / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The path of a state dict of SMALL."""
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.manual_seed(5)
    torch.save(torchvision.models.get_model(SMALL, weights=None).state_dict(), path)
    return str(path)


# What is read


@pytest.mark.filterwarnings("ignore:.*initialization:FutureWarning")
@pytest.mark.parametrize(
    ("name", "regions", "features"),
    [
        ("resnet18", 49, 512),
        ("alexnet", 36, 256),
        ("efficientnet_b0", 49, 1280),
        ("regnet_y_400mf", 49, 440),
        ("convnext_tiny", 49, 768),
        ("googlenet", 49, 1024),
        ("swin_t", 49, 768),
    ],
)
def test_every_family_has_its_last_map_read(name, regions, features):
    backbone = VisualBackbone(name, "grid", None, seed=1)
    assert backbone.feature_dim == features
    assert backbone.row_shape(224) == (regions, features)


@pytest.mark.parametrize(
    ("name", "own_map"),
    [
        ("mobilenet_v2", lambda network, x: network.features(x)),
        ("squeezenet1_1", lambda network, x: network.features(x)),
        ("densenet121", lambda network, x: functional.relu(network.features(x))),
        ("resnet18", lambda network, x: torch.nn.Sequential(*list(network.children())[:-2])(x)),
    ],
)
@torch.no_grad()
def test_the_grid_is_the_networks_own_map_row_by_row(name, own_map):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = torchvision.models.get_model(name, weights=None).eval()
    backbone = VisualBackbone(name, "grid", None, seed=2)
    expected = own_map(network, normalised(pictures(96)))  # (B, D, H', W')
    grid = backbone(pictures(96))  # (B, R, D)
    height, width = expected.shape[2:]
    assert grid.shape == (2, height * width, expected.shape[1])
    for row in range(height):
        for column in range(width):
            torch.testing.assert_close(grid[:, row * width + column], expected[:, :, row, column])


@torch.no_grad()
def test_global_is_what_an_average_pooling_network_classifies_by():
    backbone = VisualBackbone("resnet18", "global", None, seed=2)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = torchvision.models.resnet18().eval()
    scores = network.fc(backbone(pictures())[:, 0])
    torch.testing.assert_close(scores, network(normalised(pictures())))


def test_a_picture_does_not_depend_on_its_neighbours():
    backbone = VisualBackbone(SMALL, "grid", "none", seed=1)
    with torch.no_grad():
        together = backbone(pictures(count=3))
        torch.testing.assert_close(together[1:2], backbone(pictures(count=3)[1:2]))


def test_it_stays_in_eval_mode():
    backbone = VisualBackbone(SMALL, "grid", "none", seed=1)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    torch.nn.Sequential(backbone).train()(pictures())
    assert not any(module.training for module in backbone.modules())
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_it_is_frozen_at_first():
    backbone = VisualBackbone(SMALL, "grid", "none", seed=1)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(pictures()).requires_grad


@pytest.mark.parametrize(
    ("name", "layer", "first"),
    [
        ("resnet18", "layer4", "body.layer4.0.conv1.weight"),
        ("resnet18", "layer4.1", "body.layer4.1.conv1.weight"),
        ("mobilenet_v2", "features.17", "body.features.17.conv.0.0.weight"),
        ("mobilenet_v2", "all", "body.features.0.0.weight"),
        ("convnext_tiny", "features.7.1", "body.features.7.1.layer_scale"),
    ],
)
def test_weights_learn_from_a_layer_on(name, layer, first):
    backbone = VisualBackbone(name, "grid", "none", seed=1)
    backbone.finetune_from(layer)
    backbone(pictures()).square().sum().backward()
    names = [name for name, _ in backbone.named_parameters()]
    learning = [name for name, weight in backbone.named_parameters() if weight.grad is not None]
    assert learning == names[names.index(first) :]
    assert not any(module.training for module in backbone.modules())


def test_a_layer_that_is_none_is_refused_with_the_list():
    backbone = VisualBackbone("resnet18", "grid", "none", seed=1)
    with pytest.raises(BackboneError, match=r"resnet18 has no layer 'fc'; it has conv1, .*layer4"):
        backbone.finetune_from("fc")
    with pytest.raises(BackboneError, match="no layer 'lay'"):
        backbone.finetune_from("lay")


def test_layers_without_weights_leave_nothing_to_learn():
    backbone = VisualBackbone("vgg11", "grid", "none", seed=1)
    with pytest.raises(BackboneError, match=r"vgg11 has no weights from features\.19 on"):
        backbone.finetune_from("features.19")


@pytest.mark.parametrize(("weights", "seed"), [("none", 3), ("imagenet", 0)])
def test_weights_are_found_again_by_their_words(weights, seed, monkeypatch):
    build = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **_: build(name))
    backbone = VisualBackbone(SMALL, "grid", weights, seed)
    assert weights_from_words(backbone.weights_in_words) == (weights, seed)


def test_weights_of_a_file_are_not_found_by_their_name(weights):
    backbone = VisualBackbone(SMALL, "grid", str(weights), 1)
    assert backbone.weights_in_words == "small.pth"
    assert weights_from_words(backbone.weights_in_words) == (None, 0)


def test_a_checkpoint_holds_the_weights_and_no_head():
    one, other = (VisualBackbone(SMALL, "grid", None, seed) for seed in (1, 2))
    assert not [name for name in one.state_dict() if "classifier" in name or "pixel" in name]
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(pictures()), one(pictures()))


# Random weights


def test_random_weights_follow_the_seed_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same, other = (VisualBackbone(SMALL, "grid", "none", seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256
    with torch.no_grad():
        assert torch.equal(one(pictures()), same(pictures()))
        assert not torch.equal(one(pictures()), other(pictures()))


def test_random_weights_are_named_as_they_were_drawn():
    """What is computed of them (BatchNorm's statistics) may differ between machines."""
    found = VisualBackbone(SMALL, "grid", "none", seed=1).weights_sha256
    torch.manual_seed(1)
    drawn = torchvision.models.get_model(SMALL, weights=None)
    assert found == state_dict_sha256(drawn.state_dict())


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
@torch.no_grad()
def test_random_weights_give_values_that_float16_holds(name):
    grid = VisualBackbone(name, "grid", "none", seed=1)(pictures(224))
    assert grid.abs().max() < 10_000
    assert (grid[0] - grid[1]).std() > 0.01


# Weights from a file


@torch.no_grad()
def test_a_state_dict_is_loaded(weights):
    network = torchvision.models.get_model(SMALL, weights=None).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    backbone = VisualBackbone(SMALL, "grid", weights, seed=1)
    expected = network.features(normalised(pictures())).flatten(2).transpose(1, 2)
    torch.testing.assert_close(backbone(pictures()), expected)
    assert backbone.weights_sha256 == state_dict_sha256(network.state_dict())


def test_what_does_not_fit_is_listed(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    state["extra.weight"] = state.pop("classifier.0.bias")
    state["classifier.3.bias"] = torch.zeros(10)
    torch.save(state, tmp_path / "other.pth")
    message = (
        r"other\.pth does not fit mobilenet_v3_small: 1 missing \(classifier\.0\.bias\); "
        r"1 unexpected \(extra\.weight\); "
        r"1 of another shape \(classifier\.3\.bias \(10,\) instead of \(1000,\)\)"
    )
    with pytest.raises(BackboneError, match=message):
        VisualBackbone(SMALL, "grid", str(tmp_path / "other.pth"), seed=1)


def test_another_networks_weights_are_refused_briefly(weights):
    with pytest.raises(
        BackboneError, match=r"does not fit resnet18: \d+ missing \(.*, \.\.\.\)"
    ) as error:
        VisualBackbone("resnet18", "grid", weights, seed=1)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("content", [OrderedDict(a=1), [torch.zeros(1)], {"model": {}}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"w\.pth does not hold a state dict"):
        VisualBackbone(SMALL, "grid", str(tmp_path / "w.pth"), seed=1)


class Planted:
    """Would call `print` when unpickled carelessly."""

    def __reduce__(self):
        return print, ("planted code was run",)


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"a": Planted()}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"w\.pth .* is refused because it could run code"):
        VisualBackbone(SMALL, "grid", str(tmp_path / "w.pth"), seed=1)
    assert "planted" not in capsys.readouterr().out


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"w\.pth is not a readable weights file"):
        VisualBackbone(SMALL, "grid", str(tmp_path / "w.pth"), seed=1)


def test_a_missing_file_is_named():
    with pytest.raises(
        BackboneError, match="no weights file imagnet; give a file, 'imagenet' or 'none'"
    ):
        VisualBackbone(SMALL, "grid", "imagnet", seed=1)


# ImageNet weights, without network


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", fail)
    message = (
        r"resnet18 could not be downloaded from https://\S+resnet18\S+pth .*no route.*give the file"
    )
    with pytest.raises(BackboneError, match=message):
        VisualBackbone("resnet18", "grid", "imagenet", seed=1)


def test_imagenet_weights_are_the_first_version(monkeypatch):
    asked = {}
    build = torchvision.models.get_model

    def stub(name, weights):
        asked[name] = weights
        return build(name, weights=None)

    monkeypatch.setattr(torchvision.models, "get_model", stub)
    VisualBackbone("mobilenet_v2", "grid", "imagenet", seed=1)
    assert asked == {"mobilenet_v2": torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1}


def test_a_network_without_that_version_is_refused():
    with pytest.raises(
        BackboneError, match="no IMAGENET1K_V1 weights for regnet_y_128gf; give a file"
    ):
        VisualBackbone("regnet_y_128gf", "grid", "imagenet", seed=1)


# Networks


def test_a_network_without_a_map_is_refused():
    with pytest.raises(BackboneError, match="vit_b_16 does not end in a feature map of positions"):
        VisualBackbone("vit_b_16", "grid", None, seed=1)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet81", "did you mean resnet18"),
        ("clip", "there are alexnet, "),
        ("fcn_resnet50", "torchvision has no classification network 'fcn_resnet50'"),
    ],
)
def test_an_unknown_network_is_refused_with_a_hint(name, hint):
    with pytest.raises(BackboneError, match=hint):
        VisualBackbone(name, "grid", None, seed=1)


def test_an_unknown_layer_is_refused():
    with pytest.raises(BackboneError, match="layer 'pool' is unknown; choose one of grid, global"):
        VisualBackbone(SMALL, "pool", None, seed=1)


def test_a_size_that_the_network_cannot_read_is_refused():
    backbone = VisualBackbone("alexnet", "grid", None, seed=1)
    with pytest.raises(
        BackboneError, match=r"alexnet cannot read pictures of 16 x 16 pixels .*such as 224"
    ):
        backbone.row_shape(16)


# The hash


def test_the_hash_tells_names_types_shapes_and_values_apart():
    state = {"a": torch.arange(4.0), "b": torch.tensor(1)}
    others = [
        {"a": torch.arange(4.0), "c": torch.tensor(1)},
        {"a": torch.arange(4.0).view(2, 2), "b": torch.tensor(1)},
        {"a": torch.arange(4.0), "b": torch.tensor(2)},
        {"a": torch.arange(4.0), "b": torch.tensor(1).view(torch.float64)},
    ]
    hashes = {state_dict_sha256(each) for each in [state, *others]}
    assert len(hashes) == 5
    assert state_dict_sha256({name: tensor.clone() for name, tensor in state.items()}) in hashes
