"""The cross_modal_transformer through the commands: as teacher, as student, with all that reads models."""

import json
import logging
import shlex
import sys
from unittest import mock

import pytest
import torch
from fairseq_cli import hydra_train
from hydra.core.global_hydra import GlobalHydra
from weights import weights

from caf_dkd_plugin import Translator
from caf_dkd_plugin.__main__ import main
from caf_dkd_plugin.models.cross_modal_transformer import CrossModalTransformerConfig

ARCH = ("--arch", "cross_modal_transformer_tiny")
WIDTHS = shlex.split(
    "--encoder-embed-dim 16 --encoder-ffn-embed-dim 20 --encoder-attention-heads 2 "
    "--decoder-embed-dim 16 --decoder-ffn-embed-dim 20 --decoder-attention-heads 2 "
    "--fusion-dim 16 --fusion-heads 2 --fusion-ffn-dim 32"
)
SMALL = (*ARCH, *WIDTHS, "--encoder-layers", "1", "--decoder-layers", "2")
KD = ("--criterion", "kd_label_smoothed_cross_entropy", "--kd-lambda", "0.3")
VALIDATION = ("--task", "multimodal_translation", "--batch-size", "8", "--num-workers", "0")


@pytest.fixture(scope="module")
def trained(train, store, tmp_path_factory):
    """With images, an epoch and another one after a resume."""
    folder = tmp_path_factory.mktemp("transformer")
    options = (*SMALL, "--image-h5", store, "--image-dropout", "0.2")
    train(folder, *options)
    return train(folder, *options, "--max-epoch", "2")


@pytest.fixture(scope="module")
def text_only(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("text"), *SMALL)


def test_the_checkpoint_names_the_model_with_all_its_settings(trained, data_bin):
    state = torch.load(trained.last, weights_only=True)
    model = state["cfg"]["model"]
    assert model["_name"] == "cross_modal_transformer"
    assert model.keys() == CrossModalTransformerConfig.__dataclass_fields__.keys()
    expected = {"encoder_layers": 1, "decoder_layers": 2, "encoder_embed_dim": 16, "fusion_dim": 16}
    expected |= {"image_feature_size": 8, "max_source_positions": 1024, "dropout": 0.3}
    assert {name: model[name] for name in expected} == expected
    assert state["task_state"]["images"]["backbone"] == "made-up"


def test_positions_are_those_of_the_task(parse):
    from fairseq import tasks

    cfg = parse(*SMALL, "--max-source-positions", "70", "--max-target-positions", "80")
    assert tasks.setup_task(cfg.task).build_model(cfg.model).max_positions() == (70, 80)


def test_every_command_reads_it(trained, generate, fairseq, data_bin, store, corpus, tmp_path):
    expected = generate(trained.last, "--image-h5", store).hypotheses()
    assert sorted(expected) == list(range(22))
    run = fairseq("validate", data_bin, *VALIDATION, "--path", trained.last)
    assert f"loss {trained.run.logged('valid_loss')[-1]:g} " in run.text
    lines = (corpus / "text" / "test.en").read_text().splitlines()
    ids = (data_bin / "test.images").read_text().splitlines()
    translator = Translator.from_pretrained(trained.last, image_h5=store)
    found = translator.translate(lines, [image or None for image in ids], beam=2, max_len_b=20)
    assert dict(enumerate(translation.text for translation in found)) == expected
    for image, translation in zip(ids, found):
        if image:
            assert translation.attention.shape == (len(translation.source_tokens), 4)
            assert translation.attention.sum(axis=1) == pytest.approx(1, abs=1e-5)
    words = ("--path", trained.last, "--image-h5", store)
    plot = [*words, "--sentences", 0, "--images", corpus / "images", "--output", tmp_path / "a.png"]
    assert main(["plot-attention", str(data_bin), *map(str, plot)]) == 0
    references = ("--references", corpus / "text" / "test.de", "--derangements", 1, "--beam", 1)
    report = ("image-awareness", data_bin, *words, *references, "--json", tmp_path / "a.json")
    assert main(list(map(str, report))) == 0
    assert json.loads((tmp_path / "a.json").read_text())["bits_per_token"]["gain"]["none"] != 0
    inputs = ("average", "--inputs", trained.last, trained.best, "--output", tmp_path / "mean.pt")
    assert main(list(map(str, inputs))) == 0
    assert generate(tmp_path / "mean.pt", "--image-h5", store).hypotheses()


def test_images_are_used(trained, generate, store):
    with_images = generate(trained.last, "--image-h5", store)
    assert with_images.out != generate(trained.last, "--image-missing", "mask").out


def test_it_teaches_and_is_taught(
    trained, teacher, train, generate, cache_teacher, data_bin, store, tmp_path
):
    images = ("--image-h5", store)
    rnn = train(tmp_path / "rnn", *images, *KD, "--teacher-path", trained.last)
    assert 0 < rnn.run.logged("train_kd_loss")[0] < 100
    cache = tmp_path / "cache.h5"
    command = [data_bin, "--teacher-path", trained.last, *images, "--output", cache]
    assert cache_teacher.main(list(map(str, command))) == 0
    cached = train(tmp_path / "cached", *KD, "--teacher-cache", cache, *images)
    assert cached.run.logged("train_kd_loss") == pytest.approx(
        rnn.run.logged("train_kd_loss"), abs=0.002
    )
    both = f"{teacher.best}:{trained.last}"
    student = train(tmp_path / "student", *SMALL, *images, *KD, "--teacher-path", both)
    assert student.run.logged("train_kd_loss")
    assert not [name for name in weights(student.last) if "teach" in name]
    assert generate(student.last, *images).hypotheses()


# -- starting from another model ------------------------------------------------------------------


def test_a_multimodal_model_starts_from_a_text_only_one(train, text_only, store, tmp_path):
    start = ("--image-h5", store, "--fusion-residual", "--init-from", text_only.last)
    run = train(tmp_path, *SMALL, *start, "--lr", "1e-20").run
    assert run.logged("valid_loss")[-1] == text_only.run.logged("valid_loss")[-1]
    assert "- zero, so that the fusion adds nothing at first: encoder.fusion.ffn.3.bias" in run.log


@pytest.fixture(scope="module")
def same_sizes(stock_options):
    """Our options for a model of the sizes of conftest's small fairseq transformer."""
    return [*ARCH, *stock_options["transformer"][2:]]


def test_it_starts_from_fairseqs_transformer(train, stock_options, same_sizes, store, tmp_path):
    theirs = train(tmp_path / "theirs", *stock_options["transformer"])
    start = ("--image-h5", store, "--fusion-residual", "--init-from", theirs.last, "--lr", "1e-20")
    run = train(tmp_path / "ours", *same_sizes, *start).run
    assert run.logged("valid_loss")[-1] == theirs.run.logged("valid_loss")[-1]
    assert "- taken: encoder.layers.0.self_attn.q_proj.weight\n" in run.log


def test_weights_that_mean_something_else_are_refused(
    train, stock, stock_options, text_only, same_sizes, tmp_path
):
    start = ("--init-from", stock("transformer").last)
    other = ("--encoder-attention-heads", "4", "--activation-fn", "gelu")
    with pytest.raises(ValueError, match="has --encoder-attention-heads 2, this model 4") as error:
        train(tmp_path, *same_sizes, *start, *other)
    assert "has --activation-fn relu, this model gelu" in str(error.value)
    only_theirs = ["--no-scale-embedding", "--decoder-learned-pos", "--layernorm-embedding"]
    theirs = train(tmp_path / "theirs", *stock_options["transformer"], *only_theirs).last
    with pytest.raises(ValueError, match="was trained with --no-scale-embedding, which") as error:
        train(tmp_path, *same_sizes, "--init-from", theirs)
    assert all(f"was trained with {option}, which" in str(error.value) for option in only_theirs)
    message = "has the architecture cross_modal_transformer; a cross_modal_rnn can start from a"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, "--init-from", text_only.last)
    message = "has the architecture lstm; a cross_modal_transformer can start from a .* transformer"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, *SMALL, "--init-from", stock("lstm").last)


# -- other ways of training -----------------------------------------------------------------------


def test_a_backbone_learns_inside_it(train, generate, pixel_store, backbone_options, tmp_path):
    options = ("--image-h5", pixel_store, *backbone_options, "--image-lr-factor", "0.5")
    last = "features.12"  # of mobilenet_v3_small, the last of 13
    found = train(tmp_path, *SMALL, *options, "--image-finetune-from", last)
    assert found.run.logged("train_loss")
    assert generate(found.last, "--image-h5", pixel_store).hypotheses()


def test_bf16_needs_no_tpu(train, generate, store, tmp_path):
    trained = train(tmp_path, *SMALL, "--image-h5", store, "--bf16")
    weight = weights(trained.last)["encoder.layers.0.fc1.weight"]
    assert torch.equal(weight, weight.bfloat16().float())
    assert generate(trained.last, "--image-h5", store).hypotheses()


@pytest.fixture
def quiet_hydra(monkeypatch):
    """fairseq-hydra-train changes the log; a failure comes as an exception."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    GlobalHydra.instance().clear()
    log = logging.getLogger()
    before = log.handlers[:], log.level
    yield
    log.handlers[:] = before[0]
    log.setLevel(before[1])


def test_a_yaml_trains_it(root, data_bin, store, generate, quiet_hydra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {
        "_name": "cross_modal_transformer",
        **{f"{side}_embed_dim": 16 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_embed_dim": 16 for side in ("encoder", "decoder")},
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
    }
    overrides = {
        "common.user_dir": root / "caf_dkd_plugin",
        "common.cpu": True,
        "task": "multimodal_translation",
        "task.data": data_bin,
        "task.image_h5": store,
        "task.max_source_positions": 90,
        "criterion": "label_smoothed_cross_entropy",
        "optimizer": "adam",
        "lr_scheduler": "inverse_sqrt",
        "optimization.lr": "[0.001]",
        "optimization.max_update": 2,
        "dataset.batch_size": 8,
        "dataset.num_workers": 0,
        "checkpoint.save_dir": tmp_path / "model",
        "model": model["_name"],
        **{f"model.{name}": value for name, value in model.items() if name != "_name"},
    }
    argv = ["fairseq-hydra-train", *(f"{name}={value}" for name, value in overrides.items())]
    with mock.patch.object(sys, "argv", argv):
        hydra_train.cli_main()
    state = torch.load(tmp_path / "model" / "checkpoint_last.pt", weights_only=True)
    assert state["cfg"]["model"]["max_source_positions"] == 90
    assert generate(tmp_path / "model" / "checkpoint_last.pt", "--image-h5", store).hypotheses()
