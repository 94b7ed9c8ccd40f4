"""The real script on made-up pictures: what it writes, how it goes on, what it refuses."""

import errno
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from caf_dkd_plugin.data import image_store_writer, one_writer
from caf_dkd_plugin.data.image_store import ImageStore, ImageStoreError, partial_path
from caf_dkd_plugin.data.joined_stores import open_stores
from caf_dkd_plugin.data.pictures import load_picture, resizing_in_words
from caf_dkd_plugin.modules.visual_backbone import VisualBackbone

BACKBONE = ["--backbone", "squeezenet1_1", "--weights", "none", "--image-size", "64"]
GRID = (9, 512)
SCRIPT = Path(__file__).resolve().parents[2] / "preprocess" / "extract_features.py"


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder of 10 pictures, one of them in a sub-folder, and a hidden file."""
    folder = tmp_path_factory.mktemp("album")
    random = np.random.default_rng(1)
    (folder / "sub").mkdir()
    for number in range(10):
        small = random.integers(0, 256, (5, 6, 3), dtype="uint8")
        name = "sub/ä 1.jpg" if number == 9 else f"{number}.png"
        Image.fromarray(small).resize((90, 60)).save(folder / name)
    (folder / ".DS_Store").write_bytes(b"hidden")
    return folder


@pytest.fixture
def pictures(album, tmp_path):
    """A copy of the album that a test may change."""
    return shutil.copytree(album, tmp_path / "pictures")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "store.h5"


@pytest.fixture
def run_bare(extract_features, output, capsys):
    """Run the script on a folder; its exit code, output and errors."""

    def run(folder, *options):
        command = ["--images", str(folder), "--output", str(output), "--batch-size", "3"]
        code = extract_features.main([*command, "--workers", "0", *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def run(run_bare):
    """With a small backbone of random weights."""
    return lambda folder, *options: run_bare(folder, *BACKBONE, *options)


@pytest.fixture
def run_raw(run_bare):
    """For pixels."""
    return lambda folder, *options: run_bare(folder, "--raw", "--image-size", "32", *options)


@pytest.fixture(scope="module")
def whole(extract_features, album, tmp_path_factory):
    """The bytes of a store written without interruption."""
    path = tmp_path_factory.mktemp("whole") / "store.h5"
    command = ["--images", str(album), "--output", str(path), *BACKBONE]
    assert extract_features.main([*command, "--batch-size", "3", "--workers", "0"]) == 0
    return path.read_bytes()


# What is written


@torch.no_grad()
def test_the_store_holds_the_backbones_features(run, album, output):
    code, said, _ = run(album, "--dtype", "float32")
    assert code == 0
    assert f"wrote {output}: 10 images, 9 x 512 float32" in said
    store = ImageStore(output)
    assert store.ids == [*(f"{number}.png" for number in range(9)), "sub/ä 1.jpg"]
    assert store.shape == (10, *GRID)
    backbone = VisualBackbone("squeezenet1_1", "grid", "none", seed=1)
    for row, image_id in enumerate(store.ids):
        picture = Image.open(album / image_id).resize((64, 64), Image.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        torch.testing.assert_close(
            torch.from_numpy(store.read([row])), backbone(pixels[None]), rtol=1e-4, atol=1e-4
        )
    about = store.description
    assert (about.backbone, about.layer) == ("squeezenet1_1", "grid")
    assert about.weights == "none (seed 1)"
    assert about.weights_sha256 == backbone.weights_sha256
    assert "whole picture resized to 64x64" in about.preprocessing


def test_float16_is_the_default(run, album, output):
    run(album)
    assert ImageStore(output).dtype == "float16"
    assert ImageStore(output).problems() == []


def test_global_is_the_mean_of_the_grid(run, album, output):
    run(album, "--dtype", "float32")
    grid = ImageStore(output).read(range(10))
    assert run(album, "--dtype", "float32", "--layer", "global", "--overwrite")[0] == 0
    store = ImageStore(output)
    np.testing.assert_allclose(
        store.read(range(10)), grid.mean(1, keepdims=True), rtol=1e-4, atol=1e-4
    )
    assert store.description.layer == "global"


def test_weights_from_a_file_are_named_without_their_folder(run, album, output, tmp_path):
    torch.manual_seed(4)
    network = VisualBackbone("squeezenet1_1", "grid", None, seed=9)
    state = {name.removeprefix("body."): value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "headless.pth")
    code, _, error = run(album, "--weights", str(tmp_path / "headless.pth"))
    assert code == 1
    assert "does not fit squeezenet1_1: 2 missing (classifier.1.weight" in error
    full = torchvision.models.squeezenet1_1().state_dict()
    torch.save(full, tmp_path / "full.pth")
    assert run(album, "--weights", str(tmp_path / "full.pth"))[0] == 0
    assert ImageStore(output).description.weights == "full.pth"


def test_workers_change_nothing(run, album, output, whole):
    assert run(album, "--workers", "2")[0] == 0
    assert output.read_bytes() == whole


def test_lists_choose_the_pictures_and_their_order(run, album, output, tmp_path):
    (tmp_path / "a.images").write_text("7.png\n\n2.png\n7.png\n", "utf-8")
    (tmp_path / "b.images").write_text("2.png\nsub/ä 1.jpg\n", "utf-8")
    code, _, _ = run(album, "--list", str(tmp_path / "a.images"), str(tmp_path / "b.images"))
    assert code == 0
    assert ImageStore(output).ids == ["7.png", "2.png", "sub/ä 1.jpg"]


def test_links_are_followed_but_not_in_circles(run_raw, pictures, output):
    (pictures / "loop").symlink_to(pictures)
    (pictures / "link").symlink_to("sub")
    assert run_raw(pictures)[0] == 0
    found = ["link/ä 1.jpg", "sub/ä 1.jpg"]
    assert ImageStore(output).ids == [*(f"{number}.png" for number in range(9)), *found]


# Going on


def test_an_interrupted_run_goes_on_and_ends_the_same(
    run, extract_features, picture_batches, album, output, whole, monkeypatch
):
    write = extract_features.ImageStoreWriter.write
    calls = []

    def interrupted(self, rows, values):
        if len(calls) == 2:
            write(self, rows[:1], values[:1])
            raise KeyboardInterrupt
        calls.append(list(rows))
        write(self, rows, values)

    with monkeypatch.context() as patched:
        patched.setattr(extract_features.ImageStoreWriter, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(album)
    assert not output.exists()
    seen = []
    monkeypatch.setattr(
        picture_batches,
        "load_picture",
        lambda path, size, load=load_picture: seen.append(path) or load(path, size),
    )
    code, said, _ = run(album)
    assert code == 0
    assert "going on: 6 of 10 images are done" in said
    assert [path.name for path in seen] == ["6.png", "7.png", "8.png", "ä 1.jpg"]
    assert output.read_bytes() == whole


def test_a_killed_run_goes_on_and_ends_the_same(run, album, output, whole):
    killed_at_the_second_batch = f"""
import os, runpy, signal, sys
sys.path[:0] = {list(map(str, SCRIPT.parents[:2]))!r}
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
calls, write = [], ImageStoreWriter.write
def write_once(*args):
    calls.append(args)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args)
ImageStoreWriter.write = write_once
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    arguments = ["--images", str(album), "--output", str(output), *BACKBONE, "--batch-size", "3"]
    ended = subprocess.run(
        [sys.executable, "-c", killed_at_the_second_batch, *arguments, "--workers", "0"],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert partial_path(output).exists()
    assert not output.exists()
    with pytest.raises(ImageStoreError, match="its extraction was interrupted"):
        ImageStore(output)
    assert run(album)[0] == 0
    assert output.read_bytes() == whole
    assert [path.name for path in output.parent.iterdir()] == ["store.h5"]


def test_batches_do_not_depend_on_what_is_done(extract_features):
    done = [True] * 4 + [False] + [True] * 3 + [False] * 2
    assert extract_features.unfinished_batches(done, 3) == [[3, 4, 5], [6, 7, 8], [9]]
    assert extract_features.unfinished_batches([True] * 5, 2) == []


def test_a_finished_store_is_left_alone(run, album, output):
    run(album)
    before = output.stat()
    code, said, _ = run(album)
    assert code == 0
    assert "is already finished: 10 images. Nothing to do." in said
    assert output.stat().st_mtime_ns == before.st_mtime_ns
    assert not partial_path(output).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "global"], r"rows (9, 512) float16 there, (1, 512) float16 now; layer 'grid'"),
        (["--dtype", "float32"], "rows (9, 512) float16 there, (9, 512) float32 now"),
        (["--seed", "2"], "weights_sha256 '"),
        (["--image-size", "65"], "preprocessing '"),
        (["--backbone", "shufflenet_v2_x0_5"], "backbone 'squeezenet1_1' there"),
    ],
)
def test_a_finished_store_with_other_settings_is_kept(run, album, output, whole, options, message):
    output.parent.mkdir()
    output.write_bytes(whole)
    code, _, error = run(album, *options)
    assert code == 1
    assert "exists and was written otherwise: " in error
    assert message in error
    assert "--overwrite" in error
    assert output.read_bytes() == whole


def test_a_finished_store_of_other_pictures_is_kept(run, pictures, output, whole):
    output.parent.mkdir()
    output.write_bytes(whole)
    (pictures / "0.png").rename(pictures / "new.png")
    code, _, error = run(pictures)
    assert code == 1
    assert "1 images not in it: new.png; 1 images in it but no longer wanted: 0.png" in error
    assert run(pictures, "--overwrite")[0] == 0
    assert ImageStore(output).ids[-2:] == ["new.png", "sub/ä 1.jpg"]


def test_an_unfinished_store_with_other_settings_is_kept(run, pictures, output):
    (pictures / "3.png").write_bytes(b"")
    run(pictures)
    code, _, error = run(pictures, "--seed", "2")
    assert code == 1
    assert "was begun with other settings: weights 'none (seed 1)' there" in error
    assert partial_path(output).exists()
    assert run(pictures, "--seed", "2", "--skip-broken", "--overwrite")[0] == 0
    assert len(ImageStore(output)) == 9


def test_pictures_that_have_changed_are_pointed_out(run, pictures, output):
    """They are known by their names, so that a store of others might be taken for theirs."""
    (pictures / "3.png").write_bytes(b"")
    assert "newer than" not in run(pictures)[1]
    written = partial_path(output).stat().st_mtime
    os.utime(pictures / "1.png", (written + 10, written + 10))
    _, said, _ = run(pictures)
    assert f"note: 1 pictures are newer than {partial_path(output)}: 1.png. If" in said
    assert run(pictures, "--skip-broken")[0] == 0
    written = output.stat().st_mtime
    os.utime(pictures / "1.png", (written - 10, written - 10))
    assert "newer than" not in run(pictures, "--skip-broken")[1]
    os.utime(pictures / "2.png", (written + 10, written + 10))
    code, said, _ = run(pictures, "--skip-broken")
    assert (code, f"are newer than {output}: 2.png" in said) == (0, True)


def test_a_damaged_beginning_says_what_to_do(run, album, output):
    output.parent.mkdir()
    partial_path(output).write_bytes(b"")
    code, _, error = run(album)
    assert code == 1
    assert f"{partial_path(output)} cannot be gone on with: " in error
    assert f". Delete {partial_path(output)} to start afresh" in error
    assert run(album, "--overwrite")[0] == 0


def test_a_folder_as_output_is_refused_before_the_work(run, album, output):
    output.mkdir(parents=True)
    for options in ((), ("--overwrite",)):
        code, _, error = run(album, *options)
        assert code == 1
        assert not partial_path(output).exists()
    assert f"{output} is a folder; name the file to write" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "argument --device: gpu cannot be used: "),
        (["--device", "meta"], "argument --device: meta cannot be used: "),
        (["--device", "mps"], "argument --device: mps cannot be used: "),
        (["--device", "cuda:99"], "argument --device: cuda:99 cannot be used: "),
        (["--workers", "-1"], "argument --workers: -1 is a negative number"),
    ],
)
def test_options_that_no_machine_can_follow(run, album, capsys, options, message):
    with pytest.raises(SystemExit):
        run(album, *options)
    assert message in capsys.readouterr().err


def test_an_output_beside_the_pictures_is_none_of_them(run_raw, pictures, album):
    own = ["--output", str(pictures / "store.h5")]
    (pictures / "3.png").write_bytes(b"")
    code, _, error = run_raw(pictures, *own)
    assert code == 1
    assert "error: 1 of 10 files are not readable pictures: 3.png (" in error
    (pictures / "store.h5.partial.new").touch()
    for name in ("store.h5.compact", "store.h5.compact.partial", "store.h5.compact.lock"):
        (pictures / name).touch()
    shutil.copy(album / "3.png", pictures / "3.png")
    code, said, error = run_raw(pictures, *own)
    assert (code, error.count("error")) == (0, 0)
    assert "going on: 7 of 10 images are done" in said
    assert "is already finished: 10 images" in run_raw(pictures, *own)[1]


def test_a_file_that_is_only_called_like_the_output_counts(run_raw, pictures):
    (pictures / "0.png").rename(pictures / "sub" / "store.h5")
    (pictures / "1.png").rename(pictures / "store.h5.png")
    own = pictures / "store.h5"
    assert run_raw(pictures, "--output", str(own))[0] == 0
    assert {"store.h5.png", "sub/store.h5"} < set(ImageStore(own).ids)


# Broken files


@pytest.fixture
def with_broken(pictures):
    """Pictures among which are three files that are none."""
    (pictures / "4.png").write_bytes((pictures / "4.png").read_bytes()[:-60])
    (pictures / "5.png").write_bytes(b"")
    (pictures / "notes.txt").write_text("not a picture")
    return pictures


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_the_machine_cannot_do_is_no_broken_file(
    run, album, output, picture_batches, monkeypatch, error
):
    """With --skip-broken a disk that fails would cost good pictures."""

    def fail(path, size):
        raise error

    monkeypatch.setattr(picture_batches, "load_picture", fail)
    for workers in ("0", "1"):
        code, _, said = run(album, "--skip-broken", "--workers", workers)
        assert code == 1
        reason = "Input/output error" if isinstance(error, OSError) else "MemoryError"
        assert re.search(
            rf"^error: {album}/\d\.png could not be read: .*{reason}\. The", said, re.M
        )
        assert said.count("error:") == said.count("Run again, which goes on from here") == 1
    assert not output.exists()


def test_a_file_that_cannot_be_read_is_a_broken_one(run, pictures, output):
    """Numbers of errors that are the file's own: it may not be read, or sends Pillow before its beginning."""
    (pictures / "circle.png").symlink_to(pictures / "circle.png")
    Image.open(pictures / "1.png").save(pictures / "a.tif")
    damaged = bytearray((pictures / "a.tif").read_bytes())
    entry = damaged.index(struct.pack("<HHI", 273, 4, 1))  # where the pixels begin
    damaged[entry + 2 : entry + 12] = struct.pack("<HIi", 9, 1, -50)  # signed
    (pictures / "a.tif").write_bytes(damaged)
    with pytest.raises(OSError, match="Invalid argument"):
        load_picture(pictures / "a.tif", 64)
    code, said, _ = run(pictures, "--skip-broken")
    assert code == 0
    assert "left out 2 of 12 files, not readable as pictures: a.tif (" in said


def test_broken_files_are_named_and_the_store_stays_unfinished(run, with_broken, output):
    code, _, error = run(with_broken)
    assert code == 1
    assert "error: 3 of 11 files are not readable pictures: 4.png (" in error
    for name in ("5.png", "notes.txt"):
        assert f"), {name} (" in error
    assert "--skip-broken" in error
    assert not output.exists()
    with pytest.raises(ImageStoreError, match=r"is unfinished \(8 of 11 rows\)"):
        ImageStore(partial_path(output))


def test_after_a_repair_the_run_goes_on_to_the_same_end(run, pictures, album, output, whole):
    (pictures / "5.png").write_bytes(b"")
    assert run(pictures)[0] == 1
    shutil.copy(album / "5.png", pictures / "5.png")
    code, said, _ = run(pictures)
    assert code == 0
    assert "going on: 7 of 10 images are done" in said
    assert output.read_bytes() == whole


def test_broken_files_may_be_left_out(run, with_broken, output):
    code, said, _ = run(with_broken, "--skip-broken")
    assert code == 0
    assert "left out 3 of 11 files, not readable as pictures: 4.png (" in said
    for name in ("5.png", "notes.txt"):
        assert f"), {name} (" in said
    store = ImageStore(output)
    assert store.ids == [*(f"{number}.png" for number in (0, 1, 2, 3, 6, 7, 8)), "sub/ä 1.jpg"]
    assert store.problems() == []


def test_of_many_broken_files_the_first_are_named(run, pictures):
    for number in range(7):
        (pictures / f"{number}.png").write_bytes(b"")
    code, _, error = run(pictures)
    assert code == 1
    assert "7 of 10 files are not readable pictures: 0.png (" in error
    assert "), 4.png (" in error
    assert "), .... The others are done" in error
    assert "5.png" not in error
    said = run(pictures, "--skip-broken")[1]
    assert "left out 7 of 10 files, not readable as pictures: 0.png (" in said
    assert "5.png" not in said


def test_killed_while_they_are_left_out_it_goes_on_where_it_was(
    run, with_broken, output, monkeypatch
):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(image_store_writer, "_block_hashes", killed)
        with pytest.raises(KeyboardInterrupt):
            run(with_broken, "--skip-broken")
    code, said, _ = run(with_broken, "--skip-broken")
    assert code == 0
    assert "going on: 6 of 11 images are done" in said  # the batches without a broken file
    assert len(ImageStore(output)) == 8
    assert [path.name for path in output.parent.iterdir()] == ["store.h5"]


def test_what_was_left_out_is_looked_at_again(run, with_broken, album, output):
    run(with_broken, "--skip-broken")
    assert "already finished: 8 images" in run(with_broken, "--skip-broken")[1]
    code, _, error = run(with_broken)
    assert code == 1
    assert "3 images not in it: 4.png, 5.png, notes.txt" in error
    shutil.copy(album / "5.png", with_broken / "5.png")
    code, _, error = run(with_broken, "--skip-broken")
    assert code == 1
    assert "1 images not in it: 5.png" in error


def test_listed_pictures_that_are_not_there_are_said_at_once(run, album, output, tmp_path):
    lost = [f"lost{number}.png" for number in range(7)]
    (tmp_path / "a.images").write_text("0.png\n" + "".join(f"{name}\n" for name in lost))
    listed = ["--list", str(tmp_path / "a.images")]
    code, _, error = run(album, *listed)
    assert code == 1
    first = ", ".join(lost[:5])
    assert error.startswith(f"error: 7 of the 8 listed pictures are not in {album}: {first}, ...")
    assert "--skip-broken" in error
    assert error.count("\n") == 1
    assert not output.parent.exists()
    assert run(album, *listed, "--skip-broken")[0] == 0
    assert ImageStore(output).ids == ["0.png"]


# What cannot begin


def test_input_that_is_not_there_is_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.images").write_text("\n\n")
    assert f"error: there is no folder {tmp_path / 'nowhere'}" in run(tmp_path / "nowhere")[2]
    assert f"error: there are no files in {tmp_path / 'empty'}" in run(tmp_path / "empty")[2]
    code, _, error = run(tmp_path, "--list", str(tmp_path / "empty.images"))
    assert code == 1
    assert "error: no image is named in" in error
    error = run(tmp_path, "--list", str(tmp_path / "lost.images"))[2]
    assert "lost.images cannot be read" in error


def test_a_folder_that_cannot_be_read_is_named(run_raw, album, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if Path(path) == album / "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    code, _, error = run_raw(album)
    assert code == 1
    assert error.startswith(
        f"error: the folder {album / 'sub'} cannot be read: Permission denied. "
    )
    assert error.count("\n") == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always UTF-8")
def test_a_name_that_is_not_utf8_is_one_line_of_error(run_raw, pictures):
    (pictures / "0.png").rename(pictures / os.fsdecode(b"M\xe4dchen.png"))
    code, _, error = run_raw(pictures)
    assert code == 1
    assert "row 8 has the id 'M\\udce4dchen.png', which is not UTF-8. Rename that file." in error
    assert error.count("\n") == 1


def test_a_bad_backbone_is_one_line_of_error(run, album):
    code, _, error = run(album, "--backbone", "resnet81")
    assert code == 1
    assert error.startswith("error: torchvision has no classification network 'resnet81'")
    assert error.count("\n") == 1


def test_an_output_that_cannot_be_written_is_one_line_of_error(run, album, tmp_path):
    (tmp_path / "file").write_text("text")
    code, _, error = run(album, "--output", str(tmp_path / "file" / "store.h5"))
    assert code == 1
    assert error.startswith("error: [Errno ")
    assert str(tmp_path / "file") in error
    assert error.count("\n") == 1


def test_an_output_that_another_program_writes_is_one_line_of_error(
    run, album, output, monkeypatch
):
    def taken(*arguments):
        raise BlockingIOError

    monkeypatch.setattr(one_writer.fcntl, "lockf", taken)
    code, _, error = run(album)
    assert code == 1
    assert error.startswith(f"error: another process is writing {output}. Wait")
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--batch-size", "--image-size"])
def test_numbers_must_be_positive(run, album, capsys, option):
    with pytest.raises(SystemExit):
        run(album, option, "0")
    assert "0 is not a positive number" in capsys.readouterr().err


# Pixels


def test_raw_writes_the_pixels(run_raw, album, output):
    code, said, _ = run_raw(album)
    assert code == 0
    assert f"wrote {output}: 10 images, 32 x 32 x 3 uint8" in said
    store = ImageStore(output)
    assert store.kind == "images"
    for row, image_id in enumerate(store.ids):
        expected = np.array(Image.open(album / image_id).resize((32, 32), Image.BILINEAR))
        assert np.array_equal(store.read([row])[0], expected)
    assert store.description.backbone == store.description.weights_sha256 == ""
    assert store.description.preprocessing == resizing_in_words(32)
    assert "already finished: 10 images" in run_raw(album)[1]


def test_raw_leaves_broken_files_out_like_features(run_raw, with_broken, output):
    code, _, error = run_raw(with_broken)
    assert code == 1
    assert "not readable pictures" in error
    code, said, _ = run_raw(with_broken, "--skip-broken")
    assert code == 0
    assert f"wrote {output}" in said


def test_raw_refuses_what_would_have_no_effect(run, album, capsys):
    with pytest.raises(SystemExit):
        run(album, "--raw", "--dtype", "float32", "--device", "cpu")
    said = capsys.readouterr().err
    assert "--raw writes pixels, so --backbone, --weights, --device, --dtype would have" in said


# Parts for several machines


def test_shards_together_are_the_whole(run, album, output, extract_features, tmp_path):
    run(album)
    whole = ImageStore(output)
    parts = [tmp_path / f"part{number}.h5" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        command = ["--images", str(album), "--output", str(part), *BACKBONE, "--workers", "0"]
        assert extract_features.main([*command, "--shard", f"{number}/3"]) == 0
    together = open_stores(parts)
    assert [len(ImageStore(part)) for part in parts] == [3, 3, 4]
    assert together.ids == whole.ids
    rows = range(len(whole))
    np.testing.assert_allclose(together.read(rows), whole.read(rows), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("shard", "message"),
    [("0/2", "no part 0 of 2"), ("3/2", "no part 3 of 2"), ("1", "form I/N"), ("a/2", "form I/N")],
)
def test_a_shard_that_is_none_is_refused(run, album, capsys, shard, message):
    with pytest.raises(SystemExit):
        run(album, "--shard", shard)
    assert message in capsys.readouterr().err


def test_more_shards_than_pictures_are_refused(run, album):
    assert "10 images cannot be divided into 11 parts" in run(album, "--shard", "1/11")[2]
