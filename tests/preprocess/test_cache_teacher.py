"""A teacher's cache by the real script, and students that learn from it."""

import math
import re
import shutil

import numpy as np
import pytest
from weights import assert_same_weights

from caf_dkd_plugin.data.image_store import Description, ImageStore, partial_path
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.data.teacher_cache import TeacherCache
from caf_dkd_plugin.data.teacher_cache_writer import TeacherCacheWriter

KD = ("--criterion", "kd_label_smoothed_cross_entropy", "--kd-lambda", "0.3")
EVERYTHING = "136"  # symbols of the corpus's German


@pytest.fixture
def run(cache_teacher, data_bin, teacher, store, tmp_path, capsys):
    """Run the script; its exit code, output and errors. The cache is tmp_path / "cache.h5"."""

    def run(*options, data=data_bin, path=teacher.best, output=tmp_path / "cache.h5"):
        images = [] if "--without-images" in options else ["--image-h5", str(store)]
        command = [str(data), "--teacher-path", str(path), "--output", str(output), *images]
        rest = [str(option) for option in options if option != "--without-images"]
        code = cache_teacher.main([*command, "--max-tokens", "200", *rest])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache.h5"


CLOSE = {"rtol": 1e-3, "atol": 1e-5}


# -- learning from it -----------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", ["1", "3"])
def test_all_symbols_are_the_live_teacher(train, run, teacher, store, cache, tmp_path, temperature):
    assert run("--topk", EVERYTHING)[0] == 0
    options = (*KD, "--kd-temperature", temperature, "--image-h5", store, "--max-epoch", "2")
    live = train(tmp_path / "live", *options, "--teacher-path", teacher.best)
    cached = train(tmp_path / "cached", *options, "--teacher-cache", cache)
    for name in ("train_kd_loss", "train_loss", "valid_loss"):
        np.testing.assert_allclose(cached.run.logged(name), live.run.logged(name), atol=1e-3)
    assert_same_weights(cached.last, live.last, **CLOSE)


def test_eight_symbols_teach_the_same_where_the_shape_of_the_rest_is_known(
    train, run, teacher, store, cache, tmp_path
):
    """The teacher is 32 wide, and no more numbers say how its tails lie."""
    code, said, _ = run()
    assert code == 0
    assert "64 lines (train in" in said
    assert "the best 8 of 136 symbols and the others in 32 numbers" in said
    distance = "nats a token: 0.0000 at T = 1, 0.0000 at T = 2, 0.0000 at T = 4"
    assert distance in said
    assert distance in run()[1]  # also of a cache that is there
    options = (*KD, "--kd-temperature", "2", "--image-h5", store, "--max-epoch", "2")
    live = train(tmp_path / "live", *options, "--teacher-path", teacher.best).run
    workers = ("--num-workers", "2")
    cached = train(tmp_path / "cached", *options, "--teacher-cache", cache, *workers).run
    code, said, _ = run("--tail-rank", "0", "--overwrite")
    assert code == 0
    (at_two,) = re.findall(r"([0-9.]+) at T = 2", said)
    assert float(at_two) > 0.0001
    without = train(tmp_path / "without", *options, "--teacher-cache", cache).run
    for name in ("train_kd_loss", "valid_loss"):
        expected = np.array(live.logged(name))
        np.testing.assert_allclose(cached.logged(name), expected, rtol=0.001)
    expected = np.array(live.logged("train_kd_loss"))
    assert (abs(np.array(without.logged("train_kd_loss")) / expected - 1) > 0.005).any()


def test_it_follows_shards_upsampling_and_folders(
    train, run, fairseq, data_bin, corpus, store, teacher, cache, tmp_path
):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(data_bin, first)
    for path in sorted(first.glob("valid.*")):  # a second part of the training set
        shutil.copy(path, first / path.name.replace("valid", "train1"))
    shutil.copytree(data_bin, second)
    for path in sorted(second.glob("test.*")):
        shutil.copy(path, second / path.name.replace("test", "train"))
    data = f"{first}:{second}"
    code, said, _ = run("--topk", EVERYTHING, data=data)
    assert code == 0
    assert f"106 lines (train in {first}, train1 in {first}, train in {second})" in said
    options = (*KD, "--image-h5", store, "--upsample-primary", "2", "--max-epoch", "2")
    live = train(tmp_path / "live", *options, "--teacher-path", teacher.best, data=data)
    cached = train(tmp_path / "cached", *options, "--teacher-cache", cache, data=data)
    assert_same_weights(cached.last, live.last, **CLOSE)
    train(tmp_path / "second only", *options, "--teacher-cache", cache, data=second)


def test_an_ensemble_of_a_text_only_and_a_multimodal_teacher(
    train, run, teacher, stock, store, cache, tmp_path
):
    both = f"{teacher.best}:{stock('transformer').last}"
    assert run("--topk", EVERYTHING, path=both)[0] == 0
    options = (*KD, "--image-h5", store)
    live = train(tmp_path / "live", *options, "--teacher-path", both)
    cached = train(tmp_path / "cached", *options, "--teacher-cache", cache)
    assert_same_weights(cached.last, live.last, **CLOSE)


def test_a_resumed_training_equals_an_uninterrupted_one(train, run, store, cache, tmp_path):
    run()
    options = (*KD, "--image-h5", store, "--teacher-cache", cache)
    whole = train(tmp_path / "whole", *options, "--max-epoch", "2")
    train(tmp_path / "halves", *options)
    halves = train(tmp_path / "halves", *options, "--max-epoch", "2")
    assert_same_weights(halves.last, whole.last)


# -- refusals -------------------------------------------------------------------------------------


def test_another_text_is_refused(train, run, store, cache, data_copy, tmp_path):
    run()
    shutil.copy(data_copy / "valid.en-de.de.bin", data_copy / "train.en-de.de.bin")
    shutil.copy(data_copy / "valid.en-de.de.idx", data_copy / "train.en-de.de.idx")
    shutil.copy(data_copy / "valid.en-de.en.bin", data_copy / "train.en-de.en.bin")
    shutil.copy(data_copy / "valid.en-de.en.idx", data_copy / "train.en-de.en.idx")
    shutil.copy(data_copy / "valid.images", data_copy / "train.images")
    with pytest.raises(
        ValueError, match="has 20 lines, not 64, and another source text and another"
    ):
        train(tmp_path, *KD, "--image-h5", store, "--teacher-cache", cache, data=data_copy)


def test_another_list_of_images_or_store_is_refused(
    train, run, store, write_store, cache, data_copy, tmp_path
):
    run()
    options = (*KD, "--teacher-cache", cache)
    resnet = Description("resnet50", "grid", "none", "1" * 64, "none")
    foreign = write_store(tmp_path / "foreign.h5", ImageStore(store).ids, description=resnet)
    with pytest.raises(
        ValueError, match=r"the teacher of .*cache\.h5 saw images of another kind: b"
    ):
        train(tmp_path, *options, "--image-h5", foreign)
    images = data_copy / "train.images"
    images.write_text("".join(reversed(images.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"which has another list of images than train in"):
        train(tmp_path, *options, "--image-h5", store, data=data_copy)


def test_a_store_that_lacks_other_images_is_refused(
    train, run, data_bin, store, write_store, cache, tmp_path
):
    """The teacher saw all of them; with an image less its answers would not be those of the file."""
    run()
    first = (data_bin / "train.images").read_text().split("\n")[0]
    ids = [name for name in ImageStore(store).ids if name != first]
    smaller = write_store(tmp_path / "smaller.h5", ids)
    options = (*KD, "--teacher-cache", cache, "--image-h5", smaller, "--image-missing", "mask")
    with pytest.raises(ValueError, match=r"saw another image store than .*smaller\.h5: other ids"):
        train(tmp_path, *options)


def test_a_store_with_other_numbers_is_another_one(train, run, store, cache, tmp_path):
    run()
    features = ImageStore(store).read(range(len(ImageStore(store))))
    other = tmp_path / "other.h5"
    known = ImageStore(store)
    writer = ImageStoreWriter(other, known.ids, features.shape[1:], "float32", known.description)
    writer.write(range(len(features)), features + 1)
    writer.finish()
    with pytest.raises(ValueError, match=r"saw another image store than .*other\.h5"):
        train(tmp_path, *KD, "--teacher-cache", cache, "--image-h5", other)
    code, _, error = run("--image-h5", other)
    assert code == 1
    assert "exists: other images" in error


def test_a_text_only_student_learns_from_a_teacher_that_saw_images(
    train, run, cache, data_copy, tmp_path
):
    run()
    for path in data_copy.glob("*.images"):
        path.unlink()
    train(tmp_path, *KD, "--teacher-cache", cache, data=data_copy)


def test_images_in_two_files_are_those_files(train, run, store, write_store, cache, tmp_path):
    ids = ImageStore(store).ids
    halves = [write_store(tmp_path / f"{n}.h5", ids[n::2]) for n in range(2)]
    both = ":".join(map(str, halves))
    assert run("--image-h5", both)[0] == 0
    options = (*KD, "--teacher-cache", cache, "--max-update", "1", "--image-h5")
    train(tmp_path / "both", *options, both)
    other = write_store(tmp_path / "other.h5", ids[1::2][::-1])
    with pytest.raises(ValueError, match="saw another image store than"):
        train(tmp_path / "other", *options, f"{halves[0]}:{other}")


def test_a_teacher_whose_folder_has_moved(run, train, stock_options, data_bin, tmp_path):
    old = shutil.copytree(data_bin, tmp_path / "old")
    stock = ("--task", "translation", *stock_options["lstm"])
    path = train(tmp_path / "teacher", *stock, data=old).last
    new = shutil.move(old, tmp_path / "new")
    code, _, error = run("--without-images", path=path)
    assert code == 1
    assert "Say with --teacher-data where" in error
    assert run("--without-images", "--teacher-data", new, path=path)[0] == 0


@pytest.mark.parametrize("lang", ["en", "de"])
def test_another_dictionary_is_refused(lang, train, run, store, cache, data_copy, tmp_path):
    run()
    dictionary = data_copy / f"dict.{lang}.txt"
    dictionary.write_text("".join(reversed(dictionary.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=rf"was made with another dict\.{lang}\.txt than"):
        train(tmp_path, *KD, "--image-h5", store, "--teacher-cache", cache, data=data_copy)


def test_a_teacher_for_shorter_sentences_is_cached_where_they_are_short_enough(
    run, stock, train, stock_options, tmp_path
):
    """Its limit is not the task's: the sentences count."""
    short = ("--task", "translation", *stock_options["lstm"], "--max-target-positions")
    path = train(tmp_path / "30", *short, "30", "--max-source-positions", "30").last
    assert run("--without-images", path=path)[0] == 0
    long, skip = path, "--skip-invalid-size-inputs-valid-test"
    path = train(tmp_path / "10", *short, "10", skip).last
    for paths in (path, f"{path}:{long}", f"{long}:{path}"):
        error = run("--without-images", "--overwrite", path=paths)[2]
        assert "the teacher reads at most 10 target tokens of train in" in error


def test_a_cache_whose_tails_are_known_elsewhere_is_refused(
    train, run, store, cache, tmp_path, monkeypatch
):
    run()
    checks = "caf_dkd_plugin.tasks.multimodal_translation.checks"
    monkeypatch.setattr(f"{checks}.TAIL_TEMPERATURES", (1.0, 3.0, 9.0))
    with pytest.raises(ValueError, match=r"temperatures \(1\.0, 2\.0, 4\.0\), this program wants"):
        train(tmp_path, *KD, "--teacher-cache", cache, "--image-h5", store)


@pytest.mark.parametrize("option", ["--left-pad-target", "--truncate-source"])
def test_what_would_move_the_tokens_is_refused(train, run, store, cache, tmp_path, option):
    run()
    with pytest.raises(ValueError, match=f"{option}: "):
        train(tmp_path, *KD, "--teacher-cache", cache, "--image-h5", store, option)


def test_raw_data_has_no_cache(train, run, store, cache, tmp_path):
    run()
    with pytest.raises(ValueError, match="--dataset-impl raw; what goes with its lines"):
        train(tmp_path, *KD, "--teacher-cache", cache, "--dataset-impl", "raw")


def test_two_teachers_and_no_cache_are_refused(train, run, store, teacher, cache, tmp_path):
    run()
    both = ("--teacher-cache", cache, "--teacher-path", teacher.best)
    with pytest.raises(ValueError, match="--teacher-cache and --teacher-path are two teachers"):
        train(tmp_path, *KD, "--image-h5", store, *both)
    with pytest.raises(ValueError, match=r"none\.h5 does not exist"):
        train(tmp_path, *KD, "--image-h5", store, "--teacher-cache", "none.h5")
    with pytest.raises(ValueError, match=r"--kd-temperature 0\.5 sharpens .* best 8 of 136 symb"):
        train(
            tmp_path, *KD, "--image-h5", store, "--teacher-cache", cache, "--kd-temperature", "0.5"
        )
    with pytest.raises(
        ValueError, match="--teacher-cache has no effect with --criterion label_smo"
    ):
        train(tmp_path, "--image-h5", store, "--teacher-cache", cache)


def test_a_store_for_a_teacher_without_images_is_refused(run, stock):
    path = stock("lstm").best
    assert f"the teacher {path} reads no images" in run(path=path)[2]
    assert run("--without-images", path=path)[0] == 0


def test_the_script_names_what_it_cannot_use(run, tmp_path, teacher):
    assert "none.pt does not exist" in run(path="none.pt")[2]
    assert "--topk 137 is more than the 136 symbols" in run("--topk", "137")[2]
    assert "reads images: give the image store" in run("--without-images")[2]
    assert "there is no folder nowhere" in run(data="nowhere")[2]
    assert run("--splits", "train", "valid", "--overwrite")[0] == 0
    code, said, _ = run("--splits", "valid")  # of a part, it is still compared with its own lines
    assert code == 0
    assert "nats a token: 0.0000 at T = 1" in said
    assert "has no split 'vallid'" in run("--splits", "train", "vallid")[2]
    assert "--splits train train names a split twice" in run("--splits", "train", "train")[2]
    assert "--max-tokens 5: a sentence of train in" in run("--max-tokens", "5")[2]
    (tmp_path / "file").write_text("")
    assert "error: [Errno " in run(output=tmp_path / "file" / "cache.h5")[2]


# -- going on -------------------------------------------------------------------------------------


@pytest.fixture
def interrupt(run, monkeypatch):
    """Run the script and interrupt it after 20 lines."""

    def interrupt():
        write, calls = TeacherCacheWriter.write, []

        def interrupted(self, line, **values):
            if len(calls) == 20:
                raise KeyboardInterrupt
            calls.append(line)
            write(self, line, **values)

        with monkeypatch.context() as patch:
            patch.setattr(TeacherCacheWriter, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run()

    return interrupt


def test_an_interrupted_run_goes_on_and_ends_the_same(run, interrupt, cache, tmp_path):
    run(output=tmp_path / "whole.h5")
    interrupt()
    assert partial_path(cache).exists()
    assert "going on: 20 of 64 lines are done" in run()[1]
    assert cache.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert "already finished" in run()[1]


def test_a_finished_cache_of_something_else_is_kept(run, cache):
    run()
    before = cache.read_bytes()
    code, _, error = run("--topk", "4")
    assert code == 1
    assert "exists: the best 8 symbols there, 4 now. Write to another file, or" in error
    assert cache.read_bytes() == before
    assert run("--topk", "4", "--overwrite")[0] == 0
    assert TeacherCache(cache).stamp.top_k == 4


def test_an_unfinished_cache_of_something_else_is_kept_too(run, interrupt, cache):
    interrupt()
    code, _, error = run("--topk", "4")
    assert code == 1
    assert "was begun for something else: the best 8 symbols there, 4 now" in error
    assert run("--topk", "4", "--overwrite")[0] == 0
    assert TeacherCache(cache).stamp.top_k == 4


def test_what_is_kept_is_what_the_teacher_says(run, cache, teacher, data_bin, store):
    """The masses of the best symbols and of the tail make one, at temperature 1."""
    run()
    said = TeacherCache(cache).read(range(64), tokens=40)
    real = said["topk_log_probs"].any(axis=2)
    mass = np.exp(said["topk_log_probs"]).sum(axis=2) + np.exp(said["tail_log_mass"][..., 0])
    np.testing.assert_allclose(mass[real], 1, atol=1e-5)
    assert (np.diff(said["topk_log_probs"][real]) <= 0).all()
    assert said["tail_log_mass"][real][:, 1].max() <= math.log(136)
