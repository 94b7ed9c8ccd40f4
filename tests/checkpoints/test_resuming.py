"""From which checkpoint a training goes on, and with which it cannot."""

import shlex
from types import SimpleNamespace

import pytest
import torch
from fairseq import tasks

from caf_dkd_plugin.checkpoints.initialise import initialise
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
    other = train(tmp_path, "--max-update", "1").last
    options = ("--checkpoint-suffix", "_b", "--init-from", other, "--max-update")
    log = train(tmp_path, *options, "1").run.log
    assert "tensors were taken from it" in log
    assert "Loaded checkpoint" not in log
    last = tmp_path / "checkpoint_last_b.pt"
    log = train(tmp_path, *options, "2").run.log
    assert f"going on from {last}, so --init-from is not read" in log
    assert f"Loaded checkpoint {last}" in log


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


def test_a_backbone_that_is_read_elsewhere_is_another_one(
    train, pixel_store, backbone_options, tmp_path
):
    pixels = ("--image-h5", pixel_store, *backbone_options, "--max-update")
    train(tmp_path, *pixels, "1")
    with pytest.raises(ValueError, match="with --image-backbone-layer grid, not global"):
        train(tmp_path, *pixels, "2", "--image-backbone-layer", "global")


def test_settings_that_only_fairseqs_transformer_has_are_refused(stock, train, tmp_path):
    state = torch.load(stock("transformer").last, weights_only=True)
    state["cfg"]["model"].no_scale_embedding = True
    path = tmp_path / "model.pt"
    torch.save(state, path)
    sizes = shlex.split(
        "--arch cross_modal_transformer --encoder-layers 1 --decoder-layers 1 --max-update 1 "
        "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
        "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2"
    )
    with pytest.raises(ValueError, match="with --no-scale-embedding, which this model cannot have"):
        train(tmp_path / "new", *sizes, "--finetune-from-model", path)


@pytest.fixture(scope="module")
def transformer(train, parse, tmp_path_factory):
    """A cross_modal_transformer: its checkpoint, and a model of the same options."""
    options = shlex.split(
        "--arch cross_modal_transformer_tiny --encoder-layers 1 --decoder-layers 1 --max-update 1 "
        "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
        "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2"
    )
    path = train(tmp_path_factory.mktemp("transformer"), *options).last
    cfg = parse(*options)
    return path, tasks.setup_task(cfg.task).build_model(cfg.model)


@pytest.mark.parametrize(
    ("setting", "other", "problem"),
    [
        ("encoder_attention_heads", 4, "--encoder-attention-heads 4, not 2"),
        ("decoder_attention_heads", 4, "--decoder-attention-heads 4, not 2"),
        ("encoder_normalize_before", True, "--encoder-normalize-before True, not False"),
        ("decoder_normalize_before", True, "--decoder-normalize-before True, not False"),
        ("activation_fn", "gelu", "--activation-fn gelu, not relu"),
        ("no_scale_embedding", True, "--no-scale-embedding, which this model cannot have"),
        ("no_token_positional_embeddings", True, "--no-token-positional-embeddings, which"),
        ("encoder_learned_pos", True, "--encoder-learned-pos, which this model cannot have"),
        ("decoder_learned_pos", True, "--decoder-learned-pos, which this model cannot have"),
        ("layernorm_embedding", True, "--layernorm-embedding, which this model cannot have"),
        ("cross_self_attention", True, "--cross-self-attention, which this model cannot have"),
    ],
)
def test_every_setting_that_shapes_do_not_show_is_compared(
    setting, other, problem, transformer, tmp_path
):
    path, model = transformer
    assert going_on_problems(path, model) == []
    assert initialise(model, path).kept == []
    state = torch.load(path, weights_only=True)
    state["cfg"]["model"][setting] = other
    changed = tmp_path / "model.pt"
    torch.save(state, changed)
    [found] = going_on_problems(changed, model)
    assert f"was trained with {problem}" in found
    with pytest.raises(ValueError, match=f"--{setting.replace('_', '-')}"):
        initialise(model, changed)


@pytest.mark.parametrize("option", ["--restore-file", "--continue-once"])
def test_what_is_named_is_to_be_left_out(option, train, tmp_path):
    trained = train(tmp_path, "--decoder-attention-heads", "2", "--max-update", "1")
    with pytest.raises(ValueError, match="To begin anew, leave out --restore-file or --continue-o"):
        train(tmp_path / "new", option, trained.last, "--max-update", "2")


def test_a_model_of_fairseq_is_asked_nothing():
    model = SimpleNamespace(encoder=torch.nn.Identity())
    assert going_on_problems("none.pt", model) == []
