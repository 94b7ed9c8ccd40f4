import numpy as np
import pytest
from PIL import Image

from caf_dkd_plugin.data.pictures import load_picture, resizing_in_words, size_in


def test_the_whole_picture_is_used(tmp_path):
    wide = np.zeros((10, 100, 3), dtype="uint8")
    wide[:, :10, 0] = 255
    wide[:, -10:, 2] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    pixels = load_picture(tmp_path / "a.png", 20)
    assert pixels.shape == (20, 20, 3)
    assert pixels.dtype == np.uint8
    assert pixels[10, 0].tolist() == [255, 0, 0]
    assert pixels[10, 19].tolist() == [0, 0, 255]


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / f"a.{suffix}")
    pixels = load_picture(tmp_path / f"a.{suffix}", 4)
    assert (pixels == 255).all()


def test_transparent_parts_are_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("L", (8, 8), 0).save(tmp_path / "b.png", transparency=0)
    for name in ("a.png", "b.png"):
        assert (load_picture(tmp_path / name, 4) == 255).all()


def test_pictures_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (20, 20), "black")
    picture.paste("white", (0, 0, 20, 10))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    picture.rotate(180).save(tmp_path / "a.png", exif=exif)
    pixels = load_picture(tmp_path / "a.png", 20)
    assert pixels[2, 10].tolist() == [255, 255, 255]
    assert pixels[17, 10].tolist() == [0, 0, 0]


def test_grey_of_16_bits_is_not_silently_cut(tmp_path):
    Image.fromarray(np.full((8, 8), 40_000, dtype="uint16")).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"grey values of more than 8 bits \(mode I"):
        load_picture(tmp_path / "a.png", 4)


def test_an_open_picture_is_read_like_its_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "a.png")
    from_file = load_picture(str(tmp_path / "a.png"), 16)
    assert np.array_equal(load_picture(Image.fromarray(noise), 16), from_file)


def test_the_size_is_found_in_the_words():
    assert size_in(resizing_in_words(224)) == 224
    assert size_in(resizing_in_words(64) + ", and more") == 64
    assert size_in("resized to 224x224 (somehow)") is None
    assert size_in("") is None
