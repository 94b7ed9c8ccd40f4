"""From which checkpoint a training goes on, and with which it cannot."""

from types import SimpleNamespace

import pytest
import torch

from caf_dkd_plugin.checkpoints.model_settings import going_on_problems
from caf_dkd_plugin.checkpoints.resuming import LAST, resumed_path


@pytest.mark.parametrize("suffix", ["", "_b"])
def test_it_is_the_file_that_fairseq_loads(suffix, tmp_path):
    def path(restore_file=LAST, continue_once=None, finetune_from_model=None):
        return resumed_path(str(tmp_path), restore_file, suffix, continue_once, finetune_from_model)

    (tmp_path / "checkpoint_last_a.pt").touch()
    assert path() is None
    other = tmp_path / "model.pt"
    other.touch()
    assert path(finetune_from_model=str(other)) == str(other)
    assert path(continue_once=str(other)) == str(other)
    last = tmp_path / f"checkpoint_last{suffix}.pt"
    last.touch()
    assert path(finetune_from_model=str(other)) == path(continue_once=str(other)) == str(last)
    assert path() == str(last)
    named = tmp_path / f"named{suffix}.pt"
    named.touch()
    assert path(str(tmp_path / "named.pt")) == str(named)


def test_a_training_with_a_suffix_goes_on_from_its_own(train, tmp_path):
    train(tmp_path, "--max-update", "1")
    options = ("--checkpoint-suffix", "_b", "--max-update")
    first = train(tmp_path, *options, "1")
    assert "Loaded checkpoint" not in first.run.log
    log = train(tmp_path, *options, "2").run.log
    assert f"Loaded checkpoint {tmp_path}/checkpoint_last_b.pt" in log


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["--fusion-heads", "4"], "with --fusion-heads 2, not 4"),
        (["--fusion-residual"], "with --fusion-residual False, not True"),
        (["--decoder-attention-heads", "2"], "with --decoder-attention-heads 1, not 2"),
        (["--image-h5", ""], "has a model that reads images, and this one is to read none"),
    ],
)
@pytest.mark.parametrize("way", ["--save-dir", "--finetune-from-model"])
def test_weights_that_mean_something_else_are_not_gone_on_with(
    way, changes, problem, train, store, tmp_path
):
    small = ("--fusion-dim", "16", "--fusion-heads", "2", "--fusion-ffn-dim", "16")
    trained = train(tmp_path, "--image-h5", store, *small, "--max-update", "1")
    images = () if "--image-h5" in changes else ("--image-h5", store)
    changes = [] if "--image-h5" in changes else changes
    start = () if way == "--save-dir" else (way, trained.last)
    folder = tmp_path if way == "--save-dir" else tmp_path / "new"
    with pytest.raises(ValueError, match=problem) as error:
        train(folder, *small, *images, *changes, *start, "--max-update", "2")
    assert str(trained.last) in str(error.value)
    assert "--init-from" in str(error.value)


def test_a_model_of_fairseq_is_asked_nothing():
    model = SimpleNamespace(encoder=torch.nn.Identity())
    assert going_on_problems("none.pt", model) == []
