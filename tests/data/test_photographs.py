import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from caf_dkd_plugin.data.image_store import Description
from caf_dkd_plugin.data.photographs import (
    PhotographError,
    PhotographReader,
    Photographs,
    features_description,
    pixels_description,
)
from caf_dkd_plugin.data.pictures import load_picture
from caf_dkd_plugin.modules.visual_backbone import VisualBackbone

NETWORK, SIZE = "squeezenet1_1", 64


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Paths of two pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    noise = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype="uint8")
    paths = [str(folder / name) for name in ("a.png", "b.png")]
    for path, pixels in zip(paths, noise):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture(scope="module")
def backbone():
    return VisualBackbone(NETWORK, "grid", "none", seed=3)


@pytest.fixture(scope="module")
def description(backbone):
    return features_description(backbone, SIZE)


def test_features_are_those_of_the_described_backbone(photographs, backbone, description):
    pixels = torch.from_numpy(load_picture(photographs[0], SIZE)).permute(2, 0, 1)
    row = PhotographReader(description).read(photographs[0])
    assert np.array_equal(row, backbone(pixels[None])[0].numpy())
    assert row.shape == PhotographReader(description).row_shape


def test_pixels_are_read_without_a_backbone(photographs):
    reader = PhotographReader(pixels_description(20))
    assert reader.row_shape == (20, 20, 3)
    assert np.array_equal(reader.read(photographs[1]), load_picture(photographs[1], 20))


def test_weights_for_pixels_would_have_no_effect():
    with pytest.raises(PhotographError, match=r"so the weights w\.pth would have no effect"):
        PhotographReader(pixels_description(20), "w.pth")


def test_an_open_picture_is_read_too(photographs, description):
    reader = PhotographReader(description)
    with Image.open(photographs[0]) as picture:
        assert np.array_equal(reader.read(picture), reader.read(photographs[0]))


def test_they_read_like_a_store(photographs, description):
    reader = PhotographReader(description)
    with Image.open(photographs[1]) as opened:
        opened.load()
    them = Photographs(reader, {"one": photographs[0], "two": opened})
    assert (them.kind, them.shape, them.ids) == ("features", (2, *reader.row_shape), ["one", "two"])
    assert [them.row_of("two"), them.row_of("three")] == [1, None]
    rows = them.read([1, 0, 1])
    assert rows.dtype == np.float32
    assert np.array_equal(rows[0], reader.read(photographs[1]))
    assert np.array_equal(rows[0], rows[2])


def test_one_picture_of_many_rows_is_read_once(photographs, description, monkeypatch):
    reader = PhotographReader(description)
    them = Photographs(reader, {"one": photographs[0], "two": photographs[1]})
    read, seen = reader.read, []
    monkeypatch.setattr(reader, "read", lambda picture: (seen.append(picture), read(picture))[1])
    rows = them.read([1, 0, 1, 1])
    assert sorted(seen) == photographs
    assert np.array_equal(rows[3], read(photographs[1]))
    assert them.read([]).shape == (0, *reader.row_shape)


def test_they_are_rounded_like_a_store(photographs, description):
    reader = PhotographReader(description)
    like = SimpleNamespace(dtype=np.dtype(np.float16))
    [row] = Photographs(reader, {"one": photographs[0]}, like).read([0])
    assert np.array_equal(row, reader.read(photographs[0]).astype(np.float16))


def test_every_file_that_is_no_picture_is_named(photographs, tmp_path):
    (tmp_path / "c.png").write_text("no picture")
    reader = PhotographReader(pixels_description(20))
    paths = [*photographs, str(tmp_path / "c.png"), str(tmp_path / "none.png")]
    problems = Photographs(reader, {path: path for path in paths}).problems()
    assert [line.split(" is not a readable picture")[0] for line in problems] == paths[2:]
    with pytest.raises(PhotographError, match=r"c\.png is not a readable picture"):
        reader.read(paths[2])


def test_weights_of_a_file_must_be_given_and_be_the_same(photographs, tmp_path):
    files = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        files.append(tmp_path / f"weights{seed}.pth")
        torch.save(torchvision.models.get_model(NETWORK).state_dict(), files[-1])
    backbone = VisualBackbone(NETWORK, "global", str(files[0]), seed=0)
    described = features_description(backbone, SIZE)
    with pytest.raises(
        PhotographError, match=r"weights1\.pth: say where it is with --image-list-w"
    ):
        PhotographReader(described)
    with pytest.raises(PhotographError, match=r"weights2\.pth of .* are not those .* SHA-256"):
        PhotographReader(described, str(files[1]))
    row = PhotographReader(described, str(files[0])).read(photographs[0])
    pixels = torch.from_numpy(load_picture(photographs[0], SIZE)).permute(2, 0, 1)
    assert np.array_equal(row, backbone(pixels[None])[0].numpy())


def test_random_weights_that_come_out_otherwise_are_refused(description):
    changed = dataclasses.replace(description, weights_sha256="0" * 64)
    with pytest.raises(PhotographError, match=r"SHA-256 .* here, 000000000000\.\.\. then"):
        PhotographReader(changed)


@pytest.mark.parametrize(
    "words", ["", "centre crop of 224", "upright by EXIF, resized to 64x64 (somehow)"]
)
def test_features_of_unknown_preprocessing_cannot_be_made(description, words):
    changed = dataclasses.replace(description, preprocessing=words)
    with pytest.raises(PhotographError, match="their preprocessing is not the one of"):
        PhotographReader(changed)


def test_features_of_an_unknown_network_cannot_be_made(description):
    changed = dataclasses.replace(description, backbone="my_net")
    with pytest.raises(PhotographError, match="no classification network 'my_net'"):
        PhotographReader(changed)


def test_converted_features_are_told_from_pixels():
    with pytest.raises(PhotographError):
        PhotographReader(Description("resnet50", "grid", "mine", "", "as in the paper"))
