"""The image store: round trips, resumption, readers in other processes, and every error message."""

import errno
import json
import os
import pickle
import re
from dataclasses import asdict, replace

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from caf_dkd_plugin.data import image_store_writer
from caf_dkd_plugin.data.image_store import Description, ImageStore, ImageStoreError, partial_path
from caf_dkd_plugin.data.image_store_writer import ROWS_PER_BLOCK, ImageStoreWriter
from caf_dkd_plugin.data.unfinished_file import UnfinishedFile

ABOUT = Description("resnet18", "grid", "none", "0" * 64, "resized")


def make_rows(count, shape=(3, 4), dtype="float16"):
    random = np.random.default_rng(1)
    if dtype == "uint8":
        return random.integers(0, 256, (count, *shape), dtype="uint8")
    return random.standard_normal((count, *shape)).astype(dtype)


def make_ids(count):
    return [f"bild ä {row}.jpg" for row in range(count)]


def write_store(path, rows):
    writer = ImageStoreWriter(path, make_ids(len(rows)), rows.shape[1:], rows.dtype.name, ABOUT)
    writer.write(range(len(rows)), rows)
    writer.finish()
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.h5"


# What is written is read


def test_the_lines_in_the_documentation(root, tmp_path, monkeypatch):
    page = (root / "docs" / "image_store.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    rows = make_rows(5, (49, 512))
    exec(block, {"ids": make_ids(5), "features": rows})
    store = ImageStore("images.h5")
    assert (store.description.backbone, store.description.layer) == ("resnet18", "grid")
    np.testing.assert_array_equal(store.read(range(5)), rows)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((49, 8), "float16", "features"),
        ((1, 8), "float32", "features"),
        ((5, 6, 3), "uint8", "images"),
    ],
)
def test_rows_come_back_as_they_were_written(path, shape, dtype, kind):
    rows = make_rows(ROWS_PER_BLOCK + 3, shape, dtype)
    store = ImageStore(write_store(path, rows))
    assert (store.kind, store.shape, store.dtype, len(store)) == (
        kind,
        rows.shape,
        dtype,
        len(rows),
    )
    assert store.ids == make_ids(len(rows))
    assert store.description == ABOUT
    np.testing.assert_array_equal(store.read([5, 2, 2, 66]), rows[[5, 2, 2, 66]])
    assert store.problems() == []


def test_a_row_is_found_by_its_id(path):
    store = ImageStore(write_store(path, make_rows(3)))
    assert store.row_of("bild ä 2.jpg") == 2
    assert "bild ä 2.jpg" in store
    assert store.row_of("nobody.jpg") is None
    assert "nobody.jpg" not in store


def test_what_is_read_is_a_copy(path):
    store = ImageStore(write_store(path, make_rows(3)))
    store.read([1])[:] = 0
    np.testing.assert_array_equal(store.read([1]), make_rows(3)[[1]])


def test_rows_may_be_written_in_any_order(path):
    rows = make_rows(10)
    writer = ImageStoreWriter(path, make_ids(10), (3, 4), "float16", ABOUT)
    for chosen in ([9, 3], [0, 1, 2], [8, 7, 6, 5, 4]):
        writer.write(chosen, rows[chosen])
    assert writer.finish() == 10
    np.testing.assert_array_equal(ImageStore(path).read(range(10)), rows)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_workers_read_one_store(path, method):
    rows = make_rows(40)
    store = ImageStore(write_store(path, rows))
    store.read([0])  # the map of this process is open and must not matter
    loader = DataLoader(
        range(40),
        batch_size=7,
        collate_fn=store.read,
        num_workers=2,
        multiprocessing_context=method,
    )
    np.testing.assert_array_equal(np.concatenate(list(loader)), rows)


def test_a_pickled_store_carries_no_rows(path):
    store = ImageStore(write_store(path, make_rows(100, (49, 32))))
    store.read([0])
    pickled = pickle.dumps(store)
    assert len(pickled) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickled).read([99]), store.read([99]))


# Unfinished stores


def test_an_interrupted_store_goes_on_where_it_was(path):
    rows = make_rows(70)
    arguments = (path, make_ids(70), (3, 4), "float16", ABOUT)
    ImageStoreWriter(*arguments).write(range(30), rows[:30])
    writer = ImageStoreWriter(*arguments)
    assert writer.rows_done.tolist() == [True] * 30 + [False] * 40
    writer.write(range(30, 70), rows[30:])
    writer.finish()
    assert path.read_bytes() == write_store(path.with_name("other.h5"), rows).read_bytes()
    assert not partial_path(path).exists()


def test_an_unfinished_store_is_never_taken_for_a_finished_one(path):
    writer = ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    writer.write([0], make_rows(1))
    with pytest.raises(
        ImageStoreError, match=r"store\.h5 does not exist, but .*partial does: .*goes on"
    ):
        ImageStore(path)
    with pytest.raises(ImageStoreError, match=r"is unfinished \(1 of 3 rows\)"):
        ImageStore(partial_path(path))


def test_missing_rows_are_refused_at_the_end(path):
    writer = ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    writer.write([0], make_rows(1))
    with pytest.raises(
        ImageStoreError, match="2 of 3 rows were not written; the store stays unfinished"
    ):
        writer.finish()
    assert not path.exists()


def test_missing_rows_may_be_left_out(path):
    rows = make_rows(2 * ROWS_PER_BLOCK + 5)
    kept = [row for row in range(len(rows)) if row % 7]
    writer = ImageStoreWriter(path, make_ids(len(rows)), (3, 4), "float16", ABOUT)
    writer.write(kept, rows[kept])
    assert writer.finish(skip_missing=True) == len(kept)
    store = ImageStore(path)
    assert store.ids == [make_ids(len(rows))[row] for row in kept]
    np.testing.assert_array_equal(store.read(range(len(kept))), rows[kept])
    assert store.problems() == []
    assert [file.name for file in path.parent.iterdir()] == ["store.h5"]


@pytest.fixture
def kill_at(monkeypatch):
    """A function that makes the n-th call of `owner.name` from now on the process's last."""

    def kill_at(owner, name, number):
        known, calls = getattr(owner, name), []

        def killed(*arguments):
            calls.append(name)
            if len(calls) == number:
                raise KeyboardInterrupt
            return known(*arguments)

        monkeypatch.setattr(owner, name, killed)

    return kill_at


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (ImageStoreWriter, "write", 2),
        (image_store_writer, "_block_hashes", 1),
        (os, "replace", 1),
        (os, "replace", 2),
        (os, "replace", 3),
    ],
)
def test_killed_while_rows_are_left_out_it_goes_on_where_it_was(
    path, kill_at, monkeypatch, owner, name, number
):
    rows = make_rows(2 * ROWS_PER_BLOCK)
    kept = [row for row in range(len(rows)) if row % 7]
    arguments = (path, make_ids(len(rows)), (3, 4), "float16", ABOUT)
    writer = ImageStoreWriter(*arguments)
    writer.write(kept, rows[kept])
    kill_at(owner, name, number)
    with pytest.raises(KeyboardInterrupt):
        writer.finish(skip_missing=True)
    monkeypatch.undo()
    assert not path.exists()
    writer = ImageStoreWriter(*arguments)
    assert np.flatnonzero(writer.rows_done).tolist() == kept
    writer.write([0], rows[[0]])  # repaired in the meantime
    assert writer.finish(skip_missing=True) == len(kept) + 1
    store = ImageStore(path)
    np.testing.assert_array_equal(store.read(range(len(store))), rows[[0, *kept]])
    assert store.problems() == []
    assert [file.name for file in path.parent.iterdir()] == ["store.h5"]


def test_killed_after_rows_were_left_out_the_store_is_finished(path, kill_at):
    writer = ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    writer.write([0, 2], make_rows(2))
    kill_at(UnfinishedFile, "discard", 1)
    with pytest.raises(KeyboardInterrupt):
        writer.finish(skip_missing=True)
    assert len(ImageStore(path)) == 2
    assert ImageStore(path).problems() == []


def test_leaving_out_every_row_is_refused(path):
    writer = ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    with pytest.raises(ImageStoreError, match="not one row was written"):
        writer.finish(skip_missing=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"row_shape": (3, 5)}, r"shape \(3, 3, 4\) float16 there, \(3, 3, 5\) float16 now"),
        ({"dtype": "float32"}, r"float16 there, \(3, 3, 4\) float32 now"),
        ({"ids": ["bild ä 0.jpg", "x", "y"]}, "the list of images differs, first at row 1"),
        ({"ids": [*make_ids(3), "x"]}, "the list of images differs, first at row 3"),
        *(
            ({"description": replace(ABOUT, **{field: "new"})}, f"{field} '.*' there, 'new' now")
            for field in asdict(ABOUT)
        ),
    ],
)
def test_going_on_with_other_settings_is_refused(path, changed, message):
    arguments = {
        "path": path,
        "ids": make_ids(3),
        "row_shape": (3, 4),
        "dtype": "float16",
        "description": ABOUT,
    }
    ImageStoreWriter(**arguments)
    with pytest.raises(ImageStoreError, match=f"begun with other settings: .*{message}.*Delete"):
        ImageStoreWriter(**{**arguments, **changed})


# No room


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no room")
def test_an_unfinished_store_has_the_room_of_the_finished_one(path):
    ImageStoreWriter(path, make_ids(500), (49, 16), "float32", ABOUT)
    status = partial_path(path).stat()
    assert status.st_blocks * 512 >= status.st_size > 500 * 49 * 16 * 4


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("os.posix_fallocate", OSError(errno.ENOSPC, "No space left\non device")),
        (
            f"{image_store_writer.__name__}.create_contiguous",
            RuntimeError("No space left\non device"),
        ),
    ],
)
def test_a_full_disk_is_said_in_one_line_and_nothing_stays(path, monkeypatch, where, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(where, fail, raising=False)
    with pytest.raises(OSError, match=r"^.*store\.h5 .*No space left on device\. Free .*\.$"):
        ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    assert [file.name for file in path.parent.iterdir()] == ["store.h5.lock"]


# What a writer refuses


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 4), "float64"),
        ((3, 4), "uint8"),
        ((3, 0), "float16"),
        ((4,), "float16"),
        ((5, 6, 4), "uint8"),
        ((5, 6, 3), "float16"),
    ],
)
def test_rows_of_another_kind_are_refused(path, shape, dtype):
    with pytest.raises(ImageStoreError, match=r"a row is \(R, D\) of float16 or float32, or"):
        ImageStoreWriter(path, make_ids(3), shape, dtype, ABOUT)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "a store without images makes no sense"),
        (["a", ""], r"row 1 has the id ''; an id is a non-empty text"),
        (["a", "b "], r"row 1 has the id 'b '"),
        (["a\nb"], r"row 0 has the id 'a\\nb'"),
        (
            ["a", "M\udce4dchen.jpg"],
            r"row 1 has the id 'M\\udce4dchen\.jpg', which is not UTF-8\. Re",
        ),
        (["a", "b", "a"], "the id 'a' stands at row 0 and again at row 2"),
    ],
)
def test_bad_ids_are_refused(path, ids, message):
    with pytest.raises(ImageStoreError, match=message):
        ImageStoreWriter(path, ids, (3, 4), "float16", ABOUT)


def test_values_of_a_wrong_shape_are_refused(path):
    writer = ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    with pytest.raises(
        ImageStoreError, match=r"2 rows of shape \(3, 4\) are expected, not .*\(1, 3, 4\)"
    ):
        writer.write([0, 1], make_rows(1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70_000.0])
def test_values_that_are_no_finite_float16_are_refused(path, bad):
    writer = ImageStoreWriter(path, make_ids(3), (3, 4), "float16", ABOUT)
    values = make_rows(2, dtype="float32")
    values[1, 2, 3] = bad
    with pytest.raises(ImageStoreError, match="row 2 has NaN, infinite values or values too large"):
        writer.write([1, 2], values)
    assert not writer.rows_done.any()


# What a reader refuses


def test_a_missing_file_is_named(path):
    with pytest.raises(ImageStoreError, match=r"store\.h5 does not exist\. Make it with"):
        ImageStore(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ImageStoreError, match="is a folder; an image store is a file"):
        ImageStore(tmp_path)


def test_a_file_of_another_format_is_refused(path):
    path.write_bytes(b"no HDF5 at all" * 100)
    with pytest.raises(ImageStoreError, match="is not a readable HDF5 file"):
        ImageStore(path)


def test_a_foreign_hdf5_file_is_refused(path):
    with h5py.File(path, "w") as file:
        file["vectors"] = [1.0]
    with pytest.raises(ImageStoreError, match=r"not an image store \(it has \['vectors'\]\)"):
        ImageStore(path)


def change(path, function):
    """A finished store of 5 rows, with something done to its inside."""
    write_store(path, make_rows(5))
    with h5py.File(path, "r+") as file:
        function(file)
    return path


def test_another_version_is_refused(path):
    change(path, lambda file: file.attrs.__setitem__("version", 2))
    with pytest.raises(ImageStoreError, match="has format version 2, this program reads version 1"):
        ImageStore(path)


@pytest.mark.parametrize("name", ["ids", "rows_done", "block_sha256", "features"])
def test_a_store_that_lacks_a_part_is_refused(path, name):
    change(path, lambda file: file.__delitem__(name))
    with pytest.raises(ImageStoreError, match="is damaged: it should have ids"):
        ImageStore(path)


def test_a_store_of_both_kinds_is_refused(path):
    change(path, lambda file: file.create_dataset("images", data=make_rows(5, (2, 2, 3), "uint8")))
    with pytest.raises(ImageStoreError, match="one of features and images"):
        ImageStore(path)


def test_chunked_rows_are_refused(path):
    def rechunk(file):
        rows = file["features"][...]
        del file["features"]
        file.create_dataset("features", data=rows, chunks=(1, 3, 4))

    change(path, rechunk)
    with pytest.raises(ImageStoreError, match=r"not stored contiguously \(chunks: \(1, 3, 4\)\)"):
        ImageStore(path)


def test_too_few_ids_are_refused(path):
    def shorten(file):
        ids = file["ids"][:4]
        del file["ids"]
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype("utf-8"))

    change(path, shorten)
    with pytest.raises(ImageStoreError, match="has 4 ids but 5 rows of features"):
        ImageStore(path)


def test_ids_that_stand_twice_are_refused(path):
    change(path, lambda file: file["ids"].__setitem__(3, "bild ä 1.jpg"))
    with pytest.raises(
        ImageStoreError, match=r"'bild ä 1\.jpg' stands at row 1 and again at row 3"
    ):
        ImageStore(path)


def test_a_store_that_was_cut_short_is_refused(path):
    write_store(path, make_rows(500))
    with h5py.File(path, "r") as file:
        end = file["features"].id.get_offset() + 500 * 3 * 4 * 2
    path.write_bytes(path.read_bytes()[: end - 100])
    with pytest.raises(ImageStoreError, match=r"is not a readable HDF5 file .*may be cut short"):
        ImageStore(path)


def test_an_unfinished_store_under_a_finished_name_is_refused(path):
    change(path, lambda file: file.attrs.__setitem__("complete", False))
    with pytest.raises(ImageStoreError, match=r"is unfinished \(5 of 5 rows\)"):
        ImageStore(path)


# What only reading all rows finds


def test_changed_bytes_are_found_by_their_hash(path):
    rows = make_rows(ROWS_PER_BLOCK + 6)
    write_store(path, rows)
    with h5py.File(path, "r+") as file:
        file["features"][ROWS_PER_BLOCK + 1, 0, 0] += 1
    (problem,) = ImageStore(path).problems()
    assert "rows 64 to 69 (bild ä 64.jpg to bild ä 69.jpg) have changed" in problem


def test_nan_is_found_with_its_row(path):
    change(path, lambda file: file["features"].__setitem__((3, 0, 0), np.nan))
    problems = ImageStore(path).problems()
    assert len(problems) == 2  # the hash differs, too
    assert "row 3 (bild ä 3.jpg) has NaN or infinite values" in problems[1]


def test_the_description_is_readable_with_other_tools(path):
    with h5py.File(write_store(path, make_rows(2)), "r") as file:
        assert json.loads(file.attrs["description"]) == asdict(ABOUT)
        assert file["features"].chunks is None


@pytest.mark.parametrize("name", ["version", "complete", "rows_per_block", "description"])
def test_a_header_that_lacks_something_is_named(path, name):
    change(path, lambda file: file.attrs.__delitem__(name))
    with pytest.raises(ImageStoreError, match="damaged: its header lacks something"):
        ImageStore(path)


def test_a_description_with_more_in_it_is_refused(path):
    more = json.dumps({**asdict(ABOUT), "colour": "blue"})
    change(path, lambda file: file.attrs.__setitem__("description", more))
    with pytest.raises(ImageStoreError, match=r"damaged: .*colour"):
        ImageStore(path)
