import copy
from argparse import Namespace

import pytest
import torch

from caf_dkd_plugin.checkpoints.average import average, main, model_settings
from caf_dkd_plugin.checkpoints.load import load_checkpoint


@pytest.fixture(scope="module")
def run(train, store, tmp_path_factory):
    """A training with checkpoints of updates 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("run")
    return train(folder, "--image-h5", store, "--save-interval-updates", "2")


def checkpoint(run, update):
    return run.folder / f"checkpoint_1_{update}.pt"


def command(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def change(tmp_path):
    """A function that writes a changed copy of a checkpoint: (path, function, name) -> path."""

    def write(path, edit, name="changed.pt"):
        state = copy.deepcopy(load_checkpoint(path))
        edit(state)
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


# -- the mean -------------------------------------------------------------------------------------


def test_the_average_of_one_checkpoint_is_that_checkpoint(run, tmp_path):
    output = tmp_path / "average.pt"
    assert command("--inputs", run.last, "--output", output) == 0
    found, expected = load_checkpoint(output), load_checkpoint(run.last)
    assert expected.keys() - found.keys() == {"last_optimizer_state"}
    assert found["model"].keys() == expected["model"].keys()
    for name, weight in expected["model"].items():
        assert torch.equal(found["model"][name], weight)
        assert found["model"][name].dtype == weight.dtype
    for name in ("cfg", "task_state", "optimizer_history"):
        assert found[name] == expected[name]


def test_weights_are_the_mean_and_the_rest_is_the_last_ones(run, tmp_path):
    output = tmp_path / "average.pt"
    paths = [checkpoint(run, update) for update in (2, 6, 4)]
    assert command("--inputs", *paths, "--output", output) == 0
    found, states = load_checkpoint(output), [load_checkpoint(path) for path in paths]
    for name, weight in found["model"].items():
        weights = torch.stack([state["model"][name] for state in states])
        torch.testing.assert_close(weight, weights.mean(dim=0))
        assert not torch.equal(weight, weights[-1])
    assert found["optimizer_history"][-1]["num_updates"] == 4


def test_types_and_whole_numbers():
    """Three large halves, whose sum no half can hold; a count, which has no mean."""
    states = [
        {"model": {"w": torch.full((2,), 40000.0 + k, dtype=torch.half), "n": torch.tensor(k)}}
        for k in (0, 32, 64)
    ]
    model = average(states)["model"]
    assert model["w"].tolist() == [40032, 40032]
    assert model["w"].dtype == torch.half
    assert model["n"] == 64
    assert model["n"].dtype == torch.long


def test_it_translates_and_teaches(run, train, generate, store, tmp_path):
    output = tmp_path / "average.pt"
    assert command("--inputs", run.folder, "--num-update-checkpoints", "3", "--output", output) == 0
    assert len(generate(output, "--image-h5", store).hypotheses()) == 22
    kd = ("--criterion", "kd_label_smoothed_cross_entropy", "--teacher-path", output)
    student = train(tmp_path / "student", "--image-h5", store, *kd, "--max-update", "2")
    assert student.run.logged("train_kd_loss")


@pytest.mark.parametrize("option", ["--restore-file", "--init-from"])
def test_it_can_be_trained_on(option, run, train, store, tmp_path):
    """Without a learning rate nothing is learned, and what it went on from is seen."""
    output = tmp_path / "average.pt"
    assert command("--inputs", checkpoint(run, 2), checkpoint(run, 4), "--output", output) == 0
    still = ("--image-h5", store, option, output, "--max-epoch", "2", "--lr")
    begun, learned = (train(tmp_path / lr, *still, lr) for lr in ("0", "0.01"))
    weights, others, expected = (
        load_checkpoint(path)["model"] for path in (begun.last, learned.last, output)
    )
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(weights[name], weight), name
    assert any(not torch.equal(others[name], weight) for name, weight in expected.items())


def test_models_of_stock_fairseq(stock, generate, tmp_path):
    output, text = tmp_path / "average.pt", ("--task", "translation")
    lstm = stock("lstm")
    assert command("--inputs", lstm.best, lstm.last, "--output", output) == 0
    expected = generate(lstm.last, *text).hypotheses()
    assert generate(output, *text).hypotheses() == expected


# -- which checkpoints ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of epochs 1, 2, 9 and 10 and updates 100 and 1000, each with its number."""
    for name, number in {
        "checkpoint1.pt": 1, "checkpoint2.pt": 2, "checkpoint9.pt": 9, "checkpoint10.pt": 10,
        "checkpoint_2_100.pt": 100, "checkpoint_10_1000.pt": 1000,
        "checkpoint_last.pt": -5, "checkpoint_best.pt": -5, "checkpoint.best_bleu_31.pt": -5,
        "checkpoint11.pt.partial": -5,
    }.items():  # fmt: skip
        torch.save({"model": {"w": torch.tensor(float(number))}}, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "mean"),
    [
        ("--num-epoch-checkpoints 2", 9.5),
        ("--num-epoch-checkpoints 3", 7),
        ("--num-epoch-checkpoints 2 --checkpoint-upper-bound 9", 5.5),
        ("--num-update-checkpoints 1", 1000),
        ("--num-update-checkpoints 1 --checkpoint-upper-bound 999", 100),
        ("--num-update-checkpoints 2", 550),
    ],
)
def test_the_newest_of_a_folder(options, mean, folder):
    output = folder / "average.pt"
    assert command("--inputs", folder, *options.split(), "--output", output) == 0
    assert load_checkpoint(output)["model"]["w"] == mean


def test_too_few_are_refused(folder, capsys):
    options = ("--num-epoch-checkpoints", 3, "--checkpoint-upper-bound", 8)
    assert command("--inputs", folder, *options, "--output", folder / "x.pt") == 1
    assert "has 2 checkpoints" in capsys.readouterr().err
    missing = folder / "none"
    assert command("--inputs", missing, *options, "--output", folder / "x.pt") == 1
    assert f"there is no folder {missing}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--inputs a", "--output"),
        ("--inputs a b --num-epoch-checkpoints 2 --output x", "one folder as --inputs, not 2"),
        ("--inputs a --checkpoint-upper-bound 2 --output x", "needs --num-epoch-checkpoints"),
        ("--inputs a --num-epoch-checkpoints 0 --output x", "0 is not a positive number"),
        (
            "--inputs a --num-epoch-checkpoints 1 --num-update-checkpoints 1 --output x",
            "not allowed with",
        ),
    ],
)
def test_contradictory_options_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        command(*options.split())
    assert message in capsys.readouterr().err


# -- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(paths, *messages)`: the command names each in a line and writes nothing."""

    def check(paths, *messages, output=tmp_path / "average.pt"):
        before = sorted(tmp_path.iterdir())
        assert command("--inputs", *paths, "--output", output) == 1
        assert sorted(tmp_path.iterdir()) == before
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(messages)
        for line, message in zip(lines, messages):
            assert line.startswith("error: ")
            assert message in line

    return check


def test_all_problems_come_at_once(run, refused, change, tmp_path):
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(run.last.read_bytes()[:5000])
    unequal = change(run.last, lambda state: state["model"].popitem())
    refused(
        [run.last, tmp_path / "none.pt", damaged, unequal],
        f"--output {tmp_path / 'no' / 'x.pt'}: there is no folder",
        "does not exist",
        "damaged.pt is no checkpoint that can be loaded",
        "changed.pt is not of one model with",
        output=tmp_path / "no" / "x.pt",
    )


def test_a_place_that_cannot_be_written(run, refused):
    output = "/proc/x.pt"  # nobody can make a file there
    refused([run.last, run.last], f"--output {output}: /proc cannot be written to", output=output)


def set_symbol(state):
    state["task_state"]["target_symbols"][7] = "other"


def set_images(state):
    state["task_state"]["images"]["backbone"] = "resnet50"


CHANGES = {
    "missing": (
        lambda state: state["model"].pop("encoder.embed_tokens.weight"),
        "tensors only in the first (1): encoder.embed_tokens.weight",
    ),
    "added": (
        lambda state: state["model"].update(more=torch.zeros(1)),
        "tensors only in the second (1): more",
    ),
    "shape": (
        lambda state: state["model"].update({"encoder.embed_tokens.weight": torch.zeros(3, 2)}),
        "tensors of other shapes (1): encoder.embed_tokens.weight is (96, 32) and (3, 2)",
    ),
    "settings": (
        lambda state: state["cfg"]["model"].update(fusion_heads=1),
        "other settings of the model (1): fusion_heads is 2 and 1",
    ),
    "symbols": (set_symbol, "another target dictionary: symbol 7 is"),
    "images": (set_images, "images of another kind in training"),
}


@pytest.mark.parametrize(("edit", "message"), CHANGES.values(), ids=CHANGES)
def test_checkpoints_of_other_models_are_refused(edit, message, run, refused, change):
    refused([run.last, change(run.last, edit)], message)


def test_the_seed_is_no_setting_of_the_model(run, change):
    """Although the model reads it, for a backbone of random weights."""
    settings = load_checkpoint(run.last)["cfg"]["model"]
    assert "seed" in settings
    changed = change(run.last, lambda state: state["cfg"]["model"].update(seed=99))
    assert command("--inputs", run.last, changed, "--output", changed.with_name("x.pt")) == 0


def test_settings_of_an_architecture_without_dataclass_are_its_own(stock, refused, change):
    """fairseq's lstm stores the whole command line."""
    path = stock("lstm").last
    settings = model_settings(load_checkpoint(path))
    assert settings["decoder_out_embed_dim"] == 16
    assert not settings.keys() & {"seed", "save_dir", "lr", "data", "task", "optimizer"}

    def set_seed(state):
        assert isinstance(state["cfg"]["model"], Namespace)
        state["cfg"]["model"].seed = 99

    def set_dropout(state):
        state["cfg"]["model"].dropout = 0.7

    changed = change(path, set_seed, "seed.pt")
    assert command("--inputs", path, changed, "--output", changed.with_name("x.pt")) == 0
    refused([path, change(path, set_dropout)], "dropout is 0.1 and 0.7")


# -- writing --------------------------------------------------------------------------------------


def test_an_input_is_not_replaced_but_an_older_average_is(run, change, refused, tmp_path):
    path = change(run.last, lambda state: None)
    (tmp_path / "sub").mkdir()
    refused([run.last, path], "is one of the inputs", output=tmp_path / "sub" / ".." / path.name)
    refused([run.last], "is a folder", output=tmp_path)
    assert command("--inputs", run.last, "--output", path) == 0
    assert "last_optimizer_state" not in load_checkpoint(path)


def test_an_interrupted_run_leaves_the_older_average(run, tmp_path, monkeypatch):
    output = tmp_path / "average.pt"
    output.write_text("older")

    def interrupted(state, path):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command("--inputs", run.last, "--output", output)
    assert output.read_text() == "older"
    assert list(tmp_path.iterdir()) == [output]
