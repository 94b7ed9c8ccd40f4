import dataclasses
import pickle

import h5py
import numpy as np
import pytest

from caf_dkd_plugin.data import stored_rows
from caf_dkd_plugin.data.image_store import partial_path
from caf_dkd_plugin.data.teacher_cache import (
    Stamp,
    TeacherCache,
    TeacherCacheError,
    Text,
)
from caf_dkd_plugin.data.teacher_cache_writer import TeacherCacheWriter

K, M, R, V = 3, 2, 4, 9
STAMP = Stamp(("a" * 64,), "en", "s" * 64, "t" * 64, {"backbone": "resnet18"}, K, (1.0, 2.0), R)
SHAPE = (np.arange(V, dtype="float32"), np.arange(R * V, dtype="float32").reshape(R, V))
TEXTS = [
    Text("train in a", 2, "1" * 64, "2" * 64, "3" * 64),
    Text("train1 in a", 3, "4" * 64, "5" * 64, ""),
]
LENGTHS = [2, 1, 4, 3, 1]


def said(line, length=None):
    """Different numbers for every line and token."""
    length = LENGTHS[line] if length is None else length
    numbers = 100 * line + np.arange(length)[:, None]
    return {
        "topk_ids": (numbers + np.arange(K)).astype("int32"),
        "topk_log_probs": -(numbers + np.arange(K) / 7).astype("float32"),
        "tail_log_mass": -(numbers + np.arange(M) / 3).astype("float32"),
        "tail_code": (numbers - np.arange(R)).astype("float16"),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "teacher.h5"


def write(path, lines=range(5), finish=True, texts=TEXTS, stamp=STAMP, overwrite=False):
    writer = TeacherCacheWriter(path, texts, LENGTHS, stamp, lambda: SHAPE, overwrite)
    for line in lines:
        writer.write(line, **said(line))
    if finish:
        writer.finish()
    return writer


def test_lines_are_read_as_they_were_written(path):
    write(path)
    cache = TeacherCache(path)
    assert cache.stamp == STAMP
    lines = [4, 2, 0, 2]
    found = cache.read(lines, tokens=5)
    for row, line in enumerate(lines):
        for name, values in said(line).items():
            assert np.array_equal(found[name][row, : LENGTHS[line]], values)
            assert not found[name][row, LENGTHS[line] :].any()
    assert found["topk_ids"].shape == (4, 5, K)
    assert found["tail_log_mass"].shape == (4, 5, M)
    assert found["tail_code"].shape == (4, 5, R)
    types = {"int32", "float32", "float16"}
    assert {values.dtype.name for values in found.values()} == types
    assert np.array_equal(cache.tail_mean, SHAPE[0])
    assert np.array_equal(cache.tail_directions, SHAPE[1])


def test_a_large_cache_is_read_the_same(path, monkeypatch):
    write(path)
    mapped, copied = TeacherCache(path), TeacherCache(path)
    expected = mapped.read([3, 0, 4], 6)
    monkeypatch.setattr(stored_rows, "MAPPED_BYTES", 0)
    found = copied.read([3, 0, 4], 6)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert expected["topk_ids"].any()


def test_a_tail_without_numbers_has_none(path):
    stamp = dataclasses.replace(STAMP, tail_rank=0)
    shape = (SHAPE[0], np.empty((0, V), dtype="float32"))
    writer = TeacherCacheWriter(path, TEXTS, LENGTHS, stamp, lambda: shape)
    for line in range(5):
        writer.write(line, **{**said(line), "tail_code": np.empty((LENGTHS[line], 0))})
    writer.finish()
    cache = TeacherCache(path)
    assert cache.read([1, 2], 4)["tail_code"].shape == (2, 4, 0)
    assert cache.tail_directions.shape == (0, V)


def test_texts_are_found_by_their_content(path):
    write(path)
    cache = TeacherCache(path)
    moved = dataclasses.replace(TEXTS[1], name="train in another folder")
    assert [cache.first_line(text) for text in (TEXTS[0], moved)] == [0, 2]


def test_a_student_without_images_need_not_have_those_of_the_teacher(path):
    write(path)
    assert TeacherCache(path).first_line(dataclasses.replace(TEXTS[0], images_sha256="")) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lines": 7}, "which has 7 lines, not 2, than train in a; "),
        ({"source_sha256": "x"}, "which has another source text than train in a; "),
        ({"target_sha256": "x"}, "which has another target text than train in a; "),
        (
            {"images_sha256": "x"},
            "which has another list of images than train in a; ",
        ),
    ],
)
def test_another_text_is_refused_with_what_differs(path, change, words):
    write(path)
    text = dataclasses.replace(TEXTS[0], **change)
    with pytest.raises(TeacherCacheError, match=r"does not know train in a, which has ") as error:
        TeacherCache(path).first_line(text)
    assert words in str(error.value)


def test_an_interrupted_cache_goes_on_and_ends_the_same(path, tmp_path):
    write(path, [3, 0], finish=False)
    with pytest.raises(TeacherCacheError, match="it was interrupted"):
        TeacherCache(path)
    writer = TeacherCacheWriter(path, TEXTS, LENGTHS, STAMP, lambda: pytest.fail("fitted again"))
    assert writer.lines_done.tolist() == [True, False, False, True, False]
    with pytest.raises(TeacherCacheError, match="3 of 5 lines were not written"):
        writer.finish()
    write(path, [1, 2, 4])
    write(tmp_path / "whole.h5")
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not partial_path(path).exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("teachers", ("b" * 64,), "another teacher"),
        ("target_symbols_sha256", "x", "another target dictionary"),
        ("source_symbols_sha256", "x", "another source dictionary"),
        ("images", None, "other images"),
        ("top_k", 4, "the best 3 symbols there, 4 now"),
        ("tail_temperatures", (1.0,), "other temperatures of the tail"),
        ("tail_rank", 5, "the tail in at most 4 numbers there, 5 now"),
        ("source_lang", "fr", r"a teacher that reads en \(fr now\)"),
    ],
)
def test_an_unfinished_cache_of_something_else_is_kept(path, field, value, words):
    write(path, [0], finish=False)
    stamp = dataclasses.replace(STAMP, **{field: value})
    with pytest.raises(TeacherCacheError, match=f"was begun for something else: {words}"):
        TeacherCacheWriter(path, TEXTS, LENGTHS, stamp, lambda: SHAPE)
    with pytest.raises(TeacherCacheError, match="2 texts there, 1 now"):
        TeacherCacheWriter(path, TEXTS[:1], LENGTHS[:2], STAMP, lambda: SHAPE)


def test_an_unfinished_cache_of_something_else_may_be_replaced(path):
    write(path, [0], finish=False)
    stamp = dataclasses.replace(STAMP, source_lang="fr")
    writer = write(path, [], finish=False, stamp=stamp, overwrite=True)
    assert not writer.lines_done.any()
    write(path, [1], finish=False, stamp=stamp)
    writer = write(path, [], finish=False, stamp=stamp, overwrite=True)
    assert writer.lines_done.tolist() == [False, True, False, False, False]  # the same: it goes on
    partial_path(path).write_text("text")
    write(path, overwrite=True)
    assert TeacherCache(path).stamp == STAMP


def test_a_line_must_have_its_tokens_and_no_nan(path):
    writer = write(path, [], finish=False)
    with pytest.raises(TeacherCacheError, match="line 2 has 4 target tokens, but topk_ids has 3"):
        writer.write(2, **said(2, length=3))
    values = said(2)
    values["tail_log_mass"][1, 0] = np.nan
    with pytest.raises(TeacherCacheError, match="tail_log_mass of line 2 has NaN"):
        writer.write(2, **values)
    assert not writer.lines_done.any()


def test_a_pickled_copy_reads_the_same(path):
    write(path)
    cache = TeacherCache(path)
    cache.read([0], 2)
    size = len(pickle.dumps(cache))
    copy = pickle.loads(pickle.dumps(cache))
    assert np.array_equal(copy.read([2], 4)["topk_ids"], cache.read([2], 4)["topk_ids"])
    assert size < 5000  # no array travels


def test_other_files_are_refused(path, tmp_path):
    with pytest.raises(TeacherCacheError, match=r"teacher\.h5 does not exist"):
        TeacherCache(path)
    with pytest.raises(TeacherCacheError, match="is a folder; a teacher's cache is a file"):
        TeacherCache(tmp_path)
    path.write_text("text")
    with pytest.raises(TeacherCacheError, match="not a readable teacher's cache"):
        TeacherCache(path)
    with h5py.File(path, "w") as file:
        file["features"] = 1
    with pytest.raises(TeacherCacheError, match="but not a teacher's cache"):
        TeacherCache(path)
    write(tmp_path / "good.h5")
    with h5py.File(tmp_path / "good.h5", "r+") as file:
        file.attrs["version"] = 1
    with pytest.raises(TeacherCacheError, match="version 1, this program reads version 2"):
        TeacherCache(tmp_path / "good.h5")
    with h5py.File(tmp_path / "good.h5", "r+") as file:
        file.attrs["version"] = 2
        del file["topk_ids"]
    with pytest.raises(TeacherCacheError, match="not a readable teacher's cache"):
        TeacherCache(tmp_path / "good.h5")


def test_a_damaged_beginning_is_named_with_what_to_do(path):
    partial_path(path).write_text("text")
    with pytest.raises(TeacherCacheError, match=r"not a readable .* Delete it to start afresh"):
        write(path)


def test_a_cache_that_is_marked_complete_but_lacks_lines_is_refused(path):
    write(path, [0, 1], finish=False)
    with h5py.File(partial_path(path), "r+") as file:
        file.attrs["complete"] = True
    partial_path(path).rename(path)
    with pytest.raises(TeacherCacheError, match="marked as complete, but lines are missing"):
        TeacherCache(path)


def test_a_cache_that_is_replaced_while_it_is_read_is_noticed(path, tmp_path):
    write(path)
    cache = TeacherCache(path)
    write(tmp_path / "other.h5")
    (tmp_path / "other.h5").replace(path)
    with pytest.raises(TeacherCacheError, match="was replaced while it was in use"):
        cache.read([0], 2)


def test_a_code_that_its_type_cannot_hold_is_refused(path):
    writer = write(path, [], finish=False)
    values = {**said(1), "tail_code": np.full((1, R), 1e6)}
    with pytest.raises(TeacherCacheError, match="tail_code of line 1 exceeds float16"):
        writer.write(1, **values)
    assert not writer.lines_done.any()


def test_an_impossible_symbol_may_be_kept(path):
    values = said(1)
    values["topk_log_probs"][0, -1] = values["tail_log_mass"][0, 0] = -np.inf
    write(path, [], finish=False).write(1, **values)
