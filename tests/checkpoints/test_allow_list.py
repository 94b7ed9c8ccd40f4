"""Checkpoints are loaded with torch's `weights_only`, which builds nothing that is not allowed."""

import argparse
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

import caf_dkd_plugin

HERE = b"numpy._core" if np.__version__ >= "2" else b"numpy.core"
THERE = b"numpy.core" if HERE == b"numpy._core" else b"numpy._core"


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def pickle_of(path):
    """The pickled part of a checkpoint, which names the classes."""
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return archive.read(name)


def rewrite(path, target, change):
    """Copy a checkpoint with its pickled part changed."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            copy.writestr(name, change(content) if name.endswith("/data.pkl") else content)
    return target


def under_other_name(path, target):
    """What the other stack's NumPy would have written."""

    def rename(content):
        assert b"c" + HERE + b".multiarray\n" in content
        return content.replace(b"c" + HERE + b".multiarray\n", b"c" + THERE + b".multiarray\n")

    return rewrite(path, target, rename)


@pytest.fixture
def forgetful():
    """torch without the plugin's allow-list, for one test."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)


def test_a_checkpoint_with_bleu_holds_what_torch_would_refuse(teacher, forgetful):
    """So the tests below show that the allow-list is needed, and that it is enough."""
    assert HERE + b".multiarray" in pickle_of(teacher.best)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load(teacher.best)
    caf_dkd_plugin.allow_fairseq_classes()
    load(teacher.best)


def test_checkpoints_of_ours_load(teacher, student):
    for checkpoint in (teacher.best, teacher.last, student.last):
        assert load(checkpoint)["model"]


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_checkpoints_of_stock_fairseq_load(stock, arch):
    """`lstm`'s settings are an argparse.Namespace, those of `transformer` plain containers."""
    assert load(stock(arch).last)["model"]


def test_the_other_stacks_checkpoints_load(teacher, generate, store, tmp_path):
    other = under_other_name(teacher.best, tmp_path / "other.pt")
    assert HERE + b".multiarray" not in pickle_of(other)
    ours, theirs = load(teacher.best), load(other)
    assert ours["extra_state"]["val_loss"] == theirs["extra_state"]["val_loss"]
    for name, weight in ours["model"].items():
        assert torch.equal(weight, theirs["model"][name])
    assert len(generate(other, "--image-h5", store).hypotheses()) == 22


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("name", [HERE, THERE])
def test_numpy_counts_load_under_both_names(tmp_path, dtype, name):
    value = {
        "array": np.arange(4, dtype=dtype),
        "scalar": np.dtype(dtype).type(3),
        "args": argparse.Namespace(arch="lstm"),
    }
    path = tmp_path / "here.pt"
    torch.save(value, path)
    if name == THERE:
        path = under_other_name(path, tmp_path / "there.pt")
    loaded = load(path)
    assert loaded["array"].tolist() == [0, 1, 2, 3]
    assert loaded["array"].dtype == loaded["scalar"].dtype == np.dtype(dtype)
    assert loaded["scalar"] == 3
    assert loaded["args"] == value["args"]


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def planted(teacher, tmp_path):
    """A checkpoint that would run a command when loaded, and the trace it would leave."""
    state = load(teacher.best)
    state["extra_state"]["planted"] = Planted(tmp_path / "trace")
    path = tmp_path / "planted.pt"
    torch.save(state, path)
    return path, tmp_path / "trace"


def test_a_planted_class_is_refused(planted):
    path, trace = planted
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        load(path)
    assert not trace.exists()


@pytest.mark.parametrize("command", ["generate", "validate", "interactive", "train", "teacher"])
def test_every_fairseq_command_refuses_it(
    planted, command, fairseq, data_bin, store, train, tmp_path
):
    path, trace = planted
    use = ("--task", "multimodal_translation", "--image-h5", store, "--batch-size", "1")
    kd = ("--criterion", "kd_label_smoothed_cross_entropy", "--teacher-path", path)
    runs = {
        "train": lambda: train(tmp_path / "new", "--image-h5", store, "--restore-file", path),
        "teacher": lambda: train(tmp_path / "new", "--image-h5", store, *kd),
    }
    run = runs.get(command, lambda: fairseq(command, data_bin, *use, "--path", path))
    with pytest.raises((pickle.UnpicklingError, ValueError), match="mkdir"):
        run()
    assert not trace.exists()
