import dataclasses
import pickle

import h5py
import numpy as np
import pytest

from caf_dkd_plugin.data.image_store import ImageStore, ImageStoreError
from caf_dkd_plugin.data.joined_stores import JoinedStores, open_stores


@pytest.fixture
def stores(write_store, tmp_path):
    """A function that writes stores with these lists of ids; their paths."""

    def write(*lists, **options):
        return [
            write_store(tmp_path / f"part{number}.h5", ids, **options)
            for number, ids in enumerate(lists)
        ]

    return write


def test_rows_of_several_are_those_of_each(stores):
    paths = stores(["a", "b", "c"], ["d"], ["e", "f"])
    parts = [ImageStore(path) for path in paths]
    joined = open_stores(paths)
    assert joined.ids == list("abcdef")
    assert (len(joined), joined.shape) == (6, (6, *parts[0].shape[1:]))
    one_by_one = np.concatenate([part.read(range(len(part))) for part in parts])
    assert np.array_equal(joined.read(range(6)), one_by_one)
    order = [5, 0, 3, 3, 2]
    assert np.array_equal(joined.read(order), one_by_one[order])
    assert joined.read([]).shape == (0, *parts[0].shape[1:])
    assert [joined.row_of(name) for name in "afx"] == [0, 5, None]
    assert "d" in joined
    assert "x" not in joined


def test_one_path_is_that_store(stores):
    assert isinstance(open_stores(stores(["a"])), ImageStore)


def test_a_pickled_copy_reads_the_same(stores):
    joined = open_stores(stores(["a"], ["b", "c"]))
    copy = pickle.loads(pickle.dumps(joined))
    assert np.array_equal(copy.read([2, 0]), joined.read([2, 0]))


def test_the_content_is_that_of_every_part(stores):
    """A teacher's cache knows by it what the teacher saw."""
    found = open_stores(stores(["a"], ["b", "c"])).content_sha256()
    assert open_stores(stores(["a"], ["b", "c"])).content_sha256() == found
    others = [
        open_stores(stores(*lists)).content_sha256()
        for lists in ([["a"], ["c", "b"]], [["x"], ["b", "c"]], [["a"], ["b"]])
    ]
    first, second = stores(["a"], ["b", "c"])
    with h5py.File(second, "r+") as file:
        file["block_sha256"][0] = np.roll(file["block_sha256"][0], 1)
    others.append(open_stores([first, second]).content_sha256())
    assert len({found, *others}) == 5


def test_every_store_that_cannot_be_opened_is_named(stores, tmp_path):
    [path] = stores(["a"])
    with pytest.raises(ImageStoreError) as error:
        open_stores([tmp_path / "one.h5", path, tmp_path / "two.h5"])
    assert "one.h5 does not exist" in str(error.value)
    assert "two.h5 does not exist" in str(error.value)


def test_an_id_in_two_stores_is_refused(stores):
    with pytest.raises(
        ImageStoreError, match=r"1 images are in .*0\.h5 and again in .*2\.h5: b\. Which"
    ):
        open_stores(stores(["a", "b"], ["c"], ["b", "d"]))


def test_stores_of_different_kinds_are_refused(stores, write_store, tmp_path):
    [one] = stores(["a"])
    larger = write_store(tmp_path / "larger.h5", ["b"], size=9)
    description = dataclasses.replace(ImageStore(one).description, layer="global")
    foreign = write_store(tmp_path / "foreign.h5", ["c"], description=description)
    with pytest.raises(ImageStoreError) as error:
        open_stores([one, larger, foreign])
    first, second = str(error.value).splitlines()
    assert first.endswith(f"features (4, 8) in {one}, features (4, 9) there")
    assert second.endswith(f"layer 'grid' in {one}, 'global' there")


def test_the_problems_of_every_part_are_reported(stores):
    paths = stores(["a"], ["b"])
    assert open_stores(paths).problems() == []
    for path in paths:
        with h5py.File(path, "r") as file:
            first = file["features"].id.get_offset()
        content = bytearray(path.read_bytes())
        content[first] ^= 1
        path.write_bytes(content)
    assert len(JoinedStores([ImageStore(path) for path in paths]).problems()) == 2
