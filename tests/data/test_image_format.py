from types import SimpleNamespace

import pytest

from caf_dkd_plugin.data.image_format import (
    ImageFormat,
    can_read_images,
    disagreements,
    format_of_model,
    format_of_store,
)
from caf_dkd_plugin.data.image_store import Description

FEATURES = ImageFormat("features", 512)
PICTURES = ImageFormat("images", 64)


def store(kind, *row_shape, description=None):
    return SimpleNamespace(path="s.h5", kind=kind, shape=(7, *row_shape), description=description)


def test_a_store_and_the_model_made_for_it_have_one_format():
    for found, row_shape in ((FEATURES, (49, 512)), (PICTURES, (64, 64, 3))):
        assert format_of_store(store(found.kind, *row_shape)) == found
        nothing = {"image_feature_size": 0, "image_size": 0}
        model = SimpleNamespace(**{**nothing, **found.as_settings()})
        assert format_of_model(model) == found
        assert can_read_images(model)


def test_models_without_images_have_none():
    assert format_of_model(SimpleNamespace(image_feature_size=0, image_size=0)) is None
    assert format_of_model(SimpleNamespace()) is None
    assert not can_read_images(SimpleNamespace())


def test_they_name_themselves():
    assert [str(FEATURES), FEATURES.option] == [
        "image features of size 512", "--image-feature-size 512"
    ]  # fmt: skip
    assert [str(PICTURES), PICTURES.option] == ["pictures of 64 x 64 pixels", "--image-size 64"]


def test_pictures_are_square():
    with pytest.raises(ValueError, match=r"s\.h5 have 64 x 48 pixels; square ones are needed"):
        format_of_store(store("images", 64, 48, 3))


def test_disagreements_are_in_words():
    trained = vars(Description("resnet18", "grid", "imagenet", "1" * 64, "whole"))
    other = Description(**{**trained, "backbone": "resnet50"})
    [line] = disagreements("it", FEATURES, trained, store("features", 49, 2048, description=other))
    assert line == (
        "it was trained with image features of size 512, but s.h5 has image features of size 2048 "
        "(backbone 'resnet18' then, 'resnet50' in s.h5). Make the store as that of the training was made."
    )
    [line] = disagreements("it", PICTURES, None, store("features", 49, 256))
    assert line.startswith(
        "it was trained with pictures of 64 x 64 pixels, but s.h5 has image features of size 256. Make"
    )


def test_the_description_must_agree_too():
    trained = vars(Description("resnet18", "grid", "imagenet", "1" * 64, "whole"))
    same = store("features", 49, 512, description=Description(**trained))
    assert disagreements("it", FEATURES, trained, same) == []
    assert disagreements("it", FEATURES, None, same) == []
    other = store(
        "features", 49, 512, description=Description(**{**trained, "backbone": "resnet34"})
    )
    [line] = disagreements("it", FEATURES, trained, other)
    assert "of another kind: backbone 'resnet18' then, 'resnet34' in s.h5." in line
