import pytest

from caf_dkd_plugin.data.image_ids import ImageIdsError, in_short, read_image_ids, write_image_ids


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"", []),
        (b"a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg\r\n", ["a.jpg", "", "b.jpg"]),
        (b"\n", [""]),
        (b"\n\na.jpg\n\n", ["", "", "a.jpg", ""]),
        (b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        ("Käse und Brot.png\n".encode(), ["Käse und Brot.png"]),
        ("a\u2028b.jpg\nc\x0c.d\n".encode(), ["a\u2028b.jpg", "c\x0c.d"]),
    ],
)
def test_lines_are_counted_and_kept_as_they_are(tmp_path, content, ids):
    path = tmp_path / "train.images"
    path.write_bytes(content)
    assert read_image_ids(path) == ids


@pytest.mark.parametrize("bad", [b" b.jpg", b"b.jpg ", b"b.jpg\t", b"  "])
def test_spaces_around_an_id_are_refused_with_their_line(tmp_path, bad):
    path = tmp_path / "train.images"
    path.write_bytes(b"a.jpg\n" + bad + b"\n")
    with pytest.raises(ImageIdsError, match=r"train\.images, line 2: .* has spaces around the id"):
        read_image_ids(path)


def test_another_encoding_is_refused_with_its_line(tmp_path):
    path = tmp_path / "train.images"
    path.write_bytes("a.jpg\nKäse.jpg\n".encode("latin-1"))
    with pytest.raises(ImageIdsError, match=r"train\.images, line 2: not UTF-8"):
        read_image_ids(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageIdsError, match=r"train\.images cannot be read: No such file"):
        read_image_ids(tmp_path / "train.images")


def test_what_is_written_is_read_back(tmp_path):
    ids = ["a.jpg", "", "sub/b ü.png", "", ""]
    write_image_ids(tmp_path / "train.images", ids)
    assert read_image_ids(tmp_path / "train.images") == ids


@pytest.mark.parametrize("bad", ["a.jpg\nb.jpg", "a.jpg ", " ", "a.jpg\r"])
def test_an_id_that_would_not_be_read_back_is_not_written(tmp_path, bad):
    path = tmp_path / "train.images"
    with pytest.raises(ImageIdsError, match=r"train\.images, line 2: "):
        write_image_ids(path, ["a.jpg", bad])
    assert not path.exists()


def test_a_message_shows_the_first_of_many():
    assert in_short(["a", "b"]) == "a, b"
    assert in_short(list("abcdefg")) == "a, b, c, d, e, ..."
