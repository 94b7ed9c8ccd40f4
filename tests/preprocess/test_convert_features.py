"""The real script on small files of every kind: what it writes, what it refuses, how it goes on."""

import tracemalloc

import h5py
import numpy as np
import pytest
import torch

from caf_dkd_plugin.data import one_writer
from caf_dkd_plugin.data.image_store import ImageStore, partial_path
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.modules.visual_backbone import VisualBackbone

ABOUT = ["--backbone", "resnet50", "--weights", "IMAGENET1K_V1"]
NAMES = [f"{number}.jpg" for number in range(6)]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "store.h5"


@pytest.fixture
def run(convert_features, output, capsys):
    """Run the script; its exit code, output and errors."""

    def run(features, ids, *options):
        paths = [str(path) for path in features]
        lists = ["--ids", *map(str, ids)] if ids else []
        command = ["--features", *paths, *lists, "--output", str(output), *ABOUT]
        code = convert_features.main([*command, *map(str, options)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(run, output):
    """Run the script, which must refuse; its message."""

    def refused(*arguments):
        code, _, error = run(*arguments)
        assert code == 1
        assert not partial_path(output).exists()
        return error.partition("error: ")[2]

    return refused


@pytest.fixture
def write(tmp_path):
    """A function that writes a features file of the kind that its name says."""

    def write(name, values):
        path = tmp_path / name
        if path.suffix == ".npy":
            path.parent.mkdir(exist_ok=True)
            np.save(path, values)
        elif path.suffix == ".npz":
            np.savez(path, **values)
        elif path.suffix == ".h5":
            with h5py.File(path, "w") as file:
                for key, value in values.items():
                    file[key] = value
        else:
            torch.save(values, path)
        return path

    return write


@pytest.fixture
def listed(tmp_path):
    """A function that writes a list of ids."""

    def listed(names, file="ids.txt"):
        (tmp_path / file).write_text("".join(f"{name}\n" for name in names), "utf-8")
        return tmp_path / file

    return listed


def draw(*shape, dtype="float32", seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def rows(path, ids=NAMES):
    store = ImageStore(path)
    return store.read([store.row_of(name) for name in ids])


# What is written


def test_every_kind_of_file_makes_the_same_store(run, write, listed, output):
    values = draw(6, 5, 4)
    tensor = torch.from_numpy(values)
    ids = [listed(NAMES)]
    by_name = dict(zip(NAMES, values))
    for name, value in by_name.items():
        write(f"folder/{name}.npy", value)
    folder = output.parents[1] / "folder"
    old = output.parents[1] / "old.pth"
    torch.save(tensor, old, _use_new_zipfile_serialization=False)
    kinds = {
        "npy": ([write("a.npy", values)], ids),
        "npz": ([write("a.npz", {"feats": values})], ids),
        "npz with key": ([write("b.npz", {"x": values, "y": -values})], ids, "--key", "x"),
        "pth": ([write("a.pth", tensor)], ids),
        "pth before 1.6": ([old], ids),
        "list": ([write("list.pt", list(tensor))], ids),
        "pth with key": ([write("key.pt", {"x": tensor, "size": 3})], ids, "--key", "x"),
        "h5": ([write("a.h5", {"in/a/group": values})], ids),
        "h5 with key": ([write("b.h5", {"x": values, "y": -values})], ids, "--key", "x"),
        "folder": ([folder], None),
        "folder and list": ([folder], ids),
        "dictionary": ([write("b.pth", dict(zip(NAMES, tensor)))], None),
        "npz by id": ([write("c.npz", by_name)], None),
        "h5 by id": ([write("c.h5", by_name)], None),
    }
    stores = {}
    for kind, (features, lists, *options) in kinds.items():
        code, said, error = run(
            features, lists, "--layout", "NRD", "--dtype", "float32", "--overwrite", *options
        )
        assert (code, error.count("error")) == (0, 0), (kind, error)
        assert f"wrote {output}: 6 images, 5 x 4 float32" in said
        np.testing.assert_array_equal(rows(output), values, err_msg=kind)
        assert ImageStore(output).problems() == []
        stores[kind] = output.read_bytes()
    assert len(set(stores.values())) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_converted(run, write, listed, output, dtype):
    tensor = torch.from_numpy(draw(6, 8)).to(dtype)
    learned = torch.nn.Parameter(tensor)  # as a frozen embedding is saved
    assert run([write("a.pth", learned)], [listed(NAMES)])[0] == 0
    assert ImageStore(output).dtype == "float16"
    np.testing.assert_array_equal(rows(output)[:, 0], tensor.to(torch.float16).numpy())


@torch.no_grad()
def test_the_regions_of_a_grid_are_those_of_the_backbone(run, write, listed, output):
    backbone = VisualBackbone("squeezenet1_1", "grid", "none", seed=1)
    pixels = torch.randint(0, 256, (6, 3, 64, 96), generator=torch.manual_seed(1)).float()
    x = (pixels / 255 - backbone.pixel_mean) / backbone.pixel_std
    grid = backbone.body(x)["map"]  # (N, D, H, W)
    assert grid.shape[1:] == (512, 3, 5)
    layouts = {
        "NDHW": grid,
        "NHWD": grid.permute(0, 2, 3, 1),
        "NWHD": grid.permute(0, 3, 2, 1),
        "NDR": grid.flatten(2),
        "NRD": grid.flatten(2).transpose(1, 2),
    }
    expected = backbone(pixels).numpy()
    ids = [listed(NAMES)]
    for layout, tensor in layouts.items():
        path = write(f"{layout}.npy", tensor.contiguous().numpy())
        options = ["--layout", layout, "--dtype", "float32", "--overwrite"]
        assert run([path], ids, *options)[0] == 0
        np.testing.assert_array_equal(rows(output), expected, err_msg=layout)
        if "H" in layout:
            flat = write("flat.npy", tensor.flatten(1).numpy())
            assert run([flat], ids, *options, "--grid", 3, 5)[0] == 0
            np.testing.assert_array_equal(rows(output), expected, err_msg=f"flat {layout}")


def test_auto_takes_what_the_shape_leaves_no_doubt_about(run, write, listed, output):
    ids = [listed(NAMES)]
    for shape, regions, layer in (
        ((8,), 1, "global"),
        ((1, 8), 1, "global"),
        ((8, 1), 1, "global"),
        ((3, 3, 8), 9, "grid"),
        ((8, 3, 3), 9, "grid"),
    ):
        values = draw(6, *shape)
        code, said, _ = run([write("a.npy", values)], ids, "--dtype", "float32", "--overwrite")
        assert code == 0
        expected = np.moveaxis(values, 1, -1) if shape[0] == 8 else values
        np.testing.assert_array_equal(rows(output), expected.reshape(6, regions, 8))
        assert ImageStore(output).description.layer == layer
    assert "6 rows, a grid of 3 rows and 3 columns of 8 features" in said


def test_several_files_make_one_store_and_equal_rows_are_stored_once(run, write, listed, output):
    values = draw(6, 8)
    again = values[[4, 1, 5]]
    code, said, _ = run(
        [write("train.npy", values[[0, 1, 1, 2, 3, 0]]), write("test.pth", torch.tensor(again))],
        [
            listed([*(f"{n}.jpg" for n in (0, 1, 1, 2, 3, 0))]),
            listed(["4.jpg", "1.jpg", "5.jpg"], "b"),
        ],
        *("--dtype", "float32"),
    )
    assert code == 0
    assert ImageStore(output).ids == NAMES
    np.testing.assert_array_equal(rows(output)[:, 0], values)
    assert "wrote" in said
    assert "6 images" in said


def test_equal_rows_may_lie_in_files_of_different_layouts(run, write, listed):
    values = draw(6, 3, 3, 8)
    features = [write("a.npy", values), write("b.npy", np.moveaxis(values, 3, 1))]
    assert run(features, [listed(NAMES)] * 2)[0] == 0
    flat = values.reshape(6, 9, 8)
    features = [write("a.npy", flat.swapaxes(1, 2))] * 2
    _, said, _ = run(features, [listed(NAMES)] * 2, "--layout", "NDR", "--layer", "grid")
    assert "already finished" in said


def test_zero_and_minus_zero_are_equal_rows(run, write, listed):
    path = write("a.npy", np.array([[0.0, 1.0], [-0.0, 1.0]], dtype="float32"))
    assert run([path], [listed(["a", "a"])])[0] == 0


def test_a_row_without_an_id_is_left_out_and_counted(run, write, listed, output):
    values = draw(6, 8)
    values[[1, 4]] = np.nan  # what belongs to no image may be anything
    names = [name if number not in (1, 4) else "" for number, name in enumerate(NAMES)]
    path = write("a.npy", values)
    code, said, _ = run([path], [listed(names)], "--dtype", "float32")
    assert code == 0
    assert f"{path}: 6 rows, 8 features; 2 left out, whose line names no image" in said
    assert ImageStore(output).ids == ["0.jpg", "2.jpg", "3.jpg", "5.jpg"]
    np.testing.assert_array_equal(rows(output, ["5.jpg"])[0, 0], values[5])


def test_a_folder_is_searched_below_or_by_its_list(run, write, listed, output):
    for name in ("b.jpg", "sub/ä 1.jpg", "a.jpg"):
        (output.parents[1] / "folder" / "sub").mkdir(parents=True, exist_ok=True)
        write(f"folder/{name}.npy", draw(8, seed=len(name)))
    folder = output.parents[1] / "folder"
    assert run([folder], None)[0] == 0
    assert ImageStore(output).ids == ["a.jpg", "b.jpg", "sub/ä 1.jpg"]
    assert run([folder], [listed(["sub/ä 1.jpg", "", "b.jpg"])], "--overwrite")[0] == 0
    assert ImageStore(output).ids == ["sub/ä 1.jpg", "b.jpg"]


def test_a_folder_is_searched_behind_links_too_but_not_in_circles(run, write, output, tmp_path):
    for name in ("a.jpg", ".a.jpg", ".hidden/b.jpg"):
        write(f"folder/{name}.npy", draw(8))
    write("elsewhere/b.jpg.npy", draw(8))
    (tmp_path / "folder" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "folder")
    assert run([tmp_path / "folder"], None)[0] == 0
    assert ImageStore(output).ids == ["a.jpg", "sub/b.jpg"]


def test_the_description_says_what_the_user_says_and_agrees_between_runs(
    run, write, listed, output
):
    ids = [listed(NAMES)]
    run([write("train.npy", draw(6, 8))], ids, "--layer", "avgpool", "--preprocessing", "crop 224")
    train = ImageStore(output).description
    options = ["--layer", "avgpool", "--preprocessing", "crop 224", "--overwrite"]
    run([write("test.npy", draw(6, 8, seed=2))], ids, *options)
    assert ImageStore(output).description == train
    assert vars(train) == {
        "backbone": "resnet50",
        "layer": "avgpool",
        "weights": "IMAGENET1K_V1",
        "weights_sha256": "",
        "preprocessing": "crop 224",
    }


def test_a_converted_store_trains(run, write, data_bin, store, output, train, generate, tmp_path):
    """And exactly as the store does whose rows were converted."""
    original = ImageStore(store)
    size = len(original)
    path = write("a.npy", original.read(range(size)))
    (tmp_path / "ids").write_text("".join(f"{name}\n" for name in original.ids))
    options = ["--layout", "NRD", "--dtype", "float32"]
    assert run([path], [tmp_path / "ids"], *options)[0] == 0
    losses = [
        train(tmp_path / name, "--image-h5", which).run.logged("valid_loss")
        for name, which in (("one", store), ("two", output))
    ]
    assert losses[0] == losses[1] != []


# Big files


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_files_are_read_a_block_at_a_time(
    run, convert_features, listed, output, monkeypatch, tmp_path, kind
):
    shape, names = (64, 2**18), [f"{number}.jpg" for number in range(64)]  # 64 MiB
    path = tmp_path / f"big.{kind}"
    if kind == "npy":
        big = np.lib.format.open_memmap(path, "w+", "float32", shape)
        big[:, 0] = range(64)
        del big
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape, "float32")[:, 0] = np.arange(64)
    monkeypatch.setattr(convert_features, "_BLOCK_BYTES", 2**21)
    tracemalloc.start()
    assert run([path], [listed(names)], "--layout", "ND")[0] == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    np.testing.assert_array_equal(rows(output, names)[:, 0, 0], range(64))


def test_blocks_change_nothing(run, convert_features, write, listed, output, monkeypatch):
    values, ids = draw(6, 5, 4), [listed(NAMES)]
    features = [write("a.npy", values), write("b.pt", list(torch.tensor(values[::-1].copy())))]
    ids.append(listed(["", *NAMES[-2::-1]], "reversed"))
    assert run(features, ids, "--layout", "NRD")[0] == 0
    whole = output.read_bytes()
    for size in (1, 3 * 5 * 4 * 4):
        monkeypatch.setattr(convert_features, "_BLOCK_BYTES", size)
        assert run(features, ids, "--layout", "NRD", "--overwrite")[0] == 0
        assert output.read_bytes() == whole


# Again, and killed


def test_a_second_run_says_that_it_is_finished(run, write, listed, output):
    ids = [listed(NAMES)]
    arguments = ([write("a.npy", draw(6, 8))], ids)
    run(*arguments)
    before = output.stat()
    code, said, _ = run(*arguments)
    assert code == 0
    assert f"{output} is already finished: 6 images. Nothing to do." in said
    assert output.stat() == before
    assert run(arguments[0], [listed(reversed(NAMES))])[0] == 1  # the rows are others'


def test_a_store_with_something_else_is_kept(run, refused, write, listed, output):
    values = draw(6, 8)
    path, ids = write("a.npy", values), [listed(NAMES)]
    run([path], ids)
    message = refused([path], ids, "--dtype", "float32", "--layer", "pool5")
    assert (
        f"{output} exists and was written otherwise: rows (1, 8) float16 there, (1, 8) float32"
        in message
    )
    assert "layer 'global' there, 'pool5' now" in message
    assert "--overwrite" in message
    values[3, 0] += 1
    np.save(path, values)
    assert "1 rows with other values: 3.jpg" in refused([path], ids)
    message = refused([write("b.npy", values[1:])], [listed([*NAMES[1:5], "x.jpg"], "b")])
    assert "1 images not in it: x.jpg; 2 images in it but no longer wanted: 0.jpg, 5.jpg" in message
    assert run([path], ids, "--overwrite")[0] == 0
    np.testing.assert_array_equal(rows(output)[:, 0], values.astype("float16"))


def test_the_output_is_looked_at_before_the_features_are_read(
    run, refused, convert_features, write, listed, output, monkeypatch
):
    ids = [listed(NAMES)]
    features = [write("a.npy", draw(6, 8))]
    run(features, ids)

    def read(*_):
        raise AssertionError

    monkeypatch.setattr(convert_features.Conversion, "blocks", read)
    assert "float16 there, (1, 8) float32 now" in refused(features, ids, "--dtype", "float32")
    output.unlink()
    output.mkdir()
    assert f"{output} is a folder" in refused(features, ids, "--overwrite")


def test_interrupted_it_leaves_no_store_and_writes_every_row_anew(
    run, write, listed, output, monkeypatch
):
    values, ids = draw(6, 8), [listed(NAMES)]
    path = write("a.npy", values)

    def interrupt(writer):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ImageStoreWriter, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run([path], ids)
    assert not output.exists()
    assert partial_path(output).exists()
    np.save(path, values + 1)  # the features were made again in the meantime
    assert run([path], ids, "--dtype", "float16")[0] == 0
    np.testing.assert_array_equal(rows(output)[:, 0], (values + 1).astype("float16"))
    assert not partial_path(output).exists()


def test_an_unfinished_store_with_other_settings_is_kept(run, write, listed, output):
    output.parent.mkdir()
    partial_path(output).write_bytes(b"an extraction of many hours")
    arguments = [write("a.npy", draw(6, 8))], [listed(NAMES)]
    assert run(*arguments)[0] == 1
    assert partial_path(output).read_bytes() == b"an extraction of many hours"
    assert run(*arguments, "--overwrite")[0] == 0
    assert not partial_path(output).exists()


# What is refused


def test_an_output_that_cannot_be_written(run, refused, write, listed, output, monkeypatch):
    def taken(*arguments):
        raise BlockingIOError

    arguments = [write("a.npy", draw(6, 8))], [listed(NAMES)]
    with monkeypatch.context() as patched:
        patched.setattr(one_writer.fcntl, "lockf", taken)
        message = refused(*arguments)
    assert message.startswith(f"another process is writing {output}. Wait")
    output.mkdir()
    assert "is a folder; an image store is a file" in refused(*arguments)
    (output / "file").write_text("text")
    code, _, error = run(*arguments, "--output", output / "file" / "store.h5")
    assert code == 1
    assert "error: [Errno " in error
    assert str(output / "file") in error


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((577, 192), ["NRD (577 regions of 192 features)", "NDR (192 regions of 577 features)"]),
        (
            (4, 6, 5),
            [
                "NHWD (a grid of 4 rows and 6 columns of 5 features)",
                "NWHD (a grid of 6 rows and 4 columns of 5 features)",
                "NDHW (a grid of 6 rows and 5 columns of 4 features)",
            ],
        ),
        ((3, 3, 3), ["NHWD", "NDHW"]),
        ((9, 9, 3), ["NHWD", "NDHW"]),
        ((25088,), ["ND (25088 features)", "NHWD, NWHD, NDHW with --grid H W"]),
        ((2, 2, 2, 2), ["none of ND, NRD, NDR, NHWD, NWHD, NDHW"]),
    ],
)
def test_a_shape_in_doubt_is_not_guessed(refused, write, listed, shape, options):
    message = refused([write("a.npy", draw(2, *shape))], [listed("ab")])
    assert f"a.npy has the shape {(2, *shape)}" in message
    for option in options:
        assert option in message


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((6, 8), ["--layout", "NRD"], "has 2 axes, of shape (6, 8), but --layout NRD has 3."),
        ((6, 8), ["--layout", "NDHW"], "NDHW has 4. Say which grid the flat rows are with --grid"),
        ((6, 8), ["--layout", "NDHW", "--grid", "3", "3"], "(N, X), and X a multiple of 9"),
        ((6, 4, 4), ["--layout", "NDHW", "--grid", "2", "2"], "it must be (N, X)"),
        ((6, 8), ["--grid", "2", "2"], "--grid goes with --layout NHWD, NWHD, NDHW"),
        ((5, 8), [], "a.npy has 5 rows of features but "),
        ((6, 0), [], "a.npy holds nothing: its shape is (6, 0)"),
        ((6, 8), ["--key", "x"], "a.npy holds a single array, so --key x chooses nothing"),
    ],
)
def test_options_that_do_not_fit_the_array(refused, write, listed, shape, options, message):
    assert message in refused([write("a.npy", draw(*shape))], [listed(NAMES)], *options)


def test_all_problems_of_all_files_are_reported_at_once(refused, write, listed, tmp_path):
    features = [
        write("a.npy", draw(5, 8)),
        tmp_path / "absent.npy",
        write("c.npy", draw(6, 8).astype(int)),
        write("d.npz", {"x": draw(6, 8), "y": draw(6, 8)}),
        write("d2.npz", {"x": draw(6, 8), "y": draw(6, 8)}),
        tmp_path / "e.txt",
        write("f.npy", draw(6, 8)),
    ]
    (tmp_path / "latin").write_bytes(b"\xe4\n" * 6)
    ids = [listed(NAMES)] * 6 + [tmp_path / "latin"]
    lines = refused(features, ids).splitlines()
    for line, problem in zip(
        lines,
        (
            "ids.txt has 6 lines. Give the list of images that",
            "there is no file",
            "c.npy holds int64 of shape (6, 8)",
            "d.npz holds 2 arrays (x, y); choose one with --key",
            "d2.npz holds 2 arrays (x, y)",
            "e.txt is neither a folder nor a file of a known kind: .npy",
            "latin, line 1: not UTF-8",
        ),
    ):
        assert problem in line
    assert len(lines) == 7
    assert not any("cannot be read" in line for line in lines)


def test_all_wrong_values_are_reported_at_once(refused, write, listed, output):
    values = draw(6, 8)
    values[1, 2], values[3, 0], values[4, 7] = np.nan, -np.inf, 70000
    other = draw(2, 8, seed=2)
    features = [write("a.npy", values), write("b.npy", other)]
    lines = refused(features, [listed(NAMES), listed(["7.jpg", "5.jpg"], "b")]).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("2 rows have NaN or infinite values: ")
    assert "a.npy row 1 (1.jpg), " in lines[0]
    assert "a.npy row 3 (3.jpg). Make" in lines[0]
    assert lines[1].startswith("1 rows have values too large for float16: ")
    assert "a.npy row 4 (4.jpg). Use --dtype float32" in lines[1]
    assert lines[2].startswith("1 times an image has other features than where it was first")
    assert "b.npy row 1 (5.jpg) and " in lines[2]
    assert "a.npy row 5 (5.jpg). Are these" in lines[2]
    assert not output.exists()


def test_files_of_different_sizes(refused, write, listed):
    features = [write("a.npy", draw(6, 8)), write("b.npy", draw(6, 9))]
    message = refused(features, [listed(NAMES)] * 2)
    assert "do not have the same (R, D): (1, 8) in " in message
    assert "; (1, 9) in " in message


@pytest.mark.parametrize("name", ["a.pth", "old.pth", "a.npy", "a.npz"])
def test_nothing_is_unpickled(refused, write, listed, tmp_path, name):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    if name == "old.pth":
        torch.save(Trap(), tmp_path / name, _use_new_zipfile_serialization=False)
    elif name == "a.npy":
        np.save(tmp_path / name, np.array([Trap()], dtype=object), allow_pickle=True)
    else:
        trap = np.array([Trap()], dtype=object)
        write(name, {"x": trap} if name == "a.npz" else Trap())
    message = refused([tmp_path / name], [listed(["a"])])
    assert name in message
    assert "could run code" in message or "cannot be read" in message
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.npy", "a.npz", "a.h5"])
def test_damaged_files_are_named(refused, write, listed, tmp_path, name):
    values = draw(6, 800)
    whole = write(
        name,
        {"x": values}
        if name in ("a.npz", "a.h5")
        else values
        if name == "a.npy"
        else torch.tensor(values),
    )
    for damaged in (whole.read_bytes()[:5000], b"text", b""):
        whole.write_bytes(damaged)
        assert f"{name} cannot be read: " in refused([whole], [listed(NAMES)])


def test_a_compression_that_is_not_installed(refused, listed, tmp_path):
    """As in the files of PyTables, which OpenNMT's forks write with blosc."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((6, 8))
        creation.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((6, 8))
        made = h5py.h5d.create(file.id, b"local_feats", h5py.h5t.NATIVE_FLOAT, space, creation)
        made.write_direct_chunk((0, 0), b"compressed")
    message = refused([tmp_path / "a.hdf5"], [listed(NAMES)])
    assert "`/local_feats` is compressed with the HDF5 filter 32001" in message
    assert "pip install hdf5plugin" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a.jpg": torch.ones(3), "meta": [1]}, "'meta' is no array of features but of type list"),
        (
            {"a": torch.ones(3), "b": torch.ones(4), "c": torch.ones(3).half()},
            "2 of 3 arrays are not, like that of 'a', of shape (3,) and float32: b, c",
        ),
        ({"a": torch.ones(3), " b": torch.ones(3)}, "row 1 has the id ' b'"),
        ({"a": torch.tensor(1.0)}, "'a' is no array of features"),
        (torch.ones(3, 4), "does not name its images; give their list with --ids"),
        ([torch.ones(3)], "does not name its images"),
        ({}, "holds no features"),
    ],
)
def test_files_that_should_name_their_images(run, write, values, message):
    code, _, error = run([write("a.pth", values)], None)
    assert code == 1
    assert message in error


def test_lists_and_files_go_together(refused, write, listed, tmp_path):
    path, ids = write("a.npy", draw(6, 8)), listed(NAMES)
    assert "there are 1 --features but 2 --ids" in refused([path], [ids, ids])
    assert "no image is named" in refused([path], [listed([""] * 6, "empty")])
    assert "absent cannot be read" in refused([path], [tmp_path / "absent"])
    write("folder/0.jpg.npy", draw(8))
    absent = refused([tmp_path / "folder"], [ids])
    assert "has no file ID.npy for 5 of 6 lines of " in absent
    assert "ids.txt: 1.jpg.npy, 2.jpg.npy" in absent
    message = refused([tmp_path / "folder"], None, "--key", "x")
    assert "folder has an array for each image, so --key x chooses nothing" in message
    assert "has no array 'z'; it has x" in refused(
        [write("a.npz", {"x": draw(6, 8)})], [ids], "--key", "z"
    )
