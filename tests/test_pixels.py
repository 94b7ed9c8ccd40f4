"""Stores of pixels: the backbone runs, and learns, inside the model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from fairseq import checkpoint_utils, tasks
from fairseq.optim.fp16_optimizer import FP16Optimizer
from weights import assert_same_weights, weights

from caf_dkd_plugin.data.image_store import ImageStore
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.data.photographs import pixels_description
from caf_dkd_plugin.modules.visual_backbone import VisualBackbone

LAST = "features.12"  # of mobilenet_v3_small, the last of 13


@pytest.fixture(scope="module")
def options(pixel_store, backbone_options):
    return ["--image-h5", pixel_store, *backbone_options, "--seed", "3"]


@pytest.fixture(scope="module")
def finetuned(train, options, tmp_path_factory):
    """A model whose backbone learned from LAST on, at half the rate, with images hidden at random."""
    return train(
        tmp_path_factory.mktemp("finetuned"),
        *options,
        *("--image-finetune-from", LAST, "--image-lr-factor", "0.5"),
        *("--max-epoch", "2", "--image-dropout", "0.3"),
    )


def backbone_weights(checkpoint):
    prefix = "encoder.backbone."
    found = {n: w for n, w in weights(checkpoint).items() if n.startswith(prefix)}
    assert found
    return {name[len(prefix) :]: weight for name, weight in found.items()}


def initial_weights():
    return VisualBackbone("mobilenet_v3_small", "grid", "none", seed=3).state_dict()


# -- the model ------------------------------------------------------------------------------------


def test_it_equals_a_model_that_is_given_the_backbones_features(
    finetuned, fairseq, data_bin, pixel_store, tmp_path
):
    """Features made with the weights of the checkpoint, read from a store, give the same loss."""
    [model], cfg, _ = load(finetuned.best)
    pixels = ImageStore(pixel_store)
    images = torch.from_numpy(pixels.read(range(len(pixels)))).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = torch.cat([model.encoder.backbone(part) for part in images.split(8)]).numpy()
    writer = ImageStoreWriter(
        tmp_path / "f.h5", pixels.ids, features.shape[1:], "float32", pixels.description
    )
    writer.write(range(len(pixels)), features)
    writer.finish()
    task = task_with(cfg, image_h5=tmp_path / "f.h5")
    features_only = {"image_size": 0, "image_feature_size": features.shape[2]}
    defaults = {"image_backbone": "resnet18", "image_lr_factor": 0.1, "image_finetune_from": None}
    cfg.model.update({**features_only, **defaults})
    reader = task.build_model(cfg.model, from_checkpoint=True)
    state = {n: w for n, w in model.state_dict().items() if not n.startswith("encoder.backbone.")}
    reader.load_state_dict(state)
    torch.testing.assert_close(
        logits(reader.eval(), task), logits(model, task_with(cfg, image_h5=pixel_store))
    )


def load(checkpoint):
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
    return [model.eval() for model in models], cfg, task


def task_with(cfg, **changes):
    cfg.task.update({name: str(value) for name, value in changes.items()})
    return tasks.setup_task(cfg.task)


def batch(task):
    task.load_dataset("valid")
    pairs = task.dataset("valid")
    return pairs.collater([pairs[index] for index in range(8)])["net_input"]


@torch.no_grad()
def logits(model, task):
    return model(**batch(task))[0]


def test_a_sentence_without_an_image_costs_no_pass_and_changes_nobody(finetuned):
    [model], _, task = load(finetuned.best)
    net_input = batch(task)
    assert net_input["image_mask"].squeeze(1).tolist().count(False) == 1
    seen = []
    model.encoder.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    before = model(**net_input)[0]
    noise = torch.randint_like(net_input["images"], 256)
    hidden = ~net_input["image_mask"].squeeze(1)
    net_input["images"][hidden] = noise[hidden]
    torch.testing.assert_close(model(**net_input)[0], before)
    net_input["image_mask"][:] = False
    model(**net_input)
    assert seen == [7, 7, 1]  # one even where nobody has an image: the graph stays the same


def test_features_for_a_model_of_pictures_are_refused(finetuned):
    [model], _, task = load(finetuned.best)
    net_input = batch(task)
    features = torch.zeros(8, 4, 576)
    del net_input["images"]
    with pytest.raises(ValueError, match="makes features of pictures itself"):
        model(**{**net_input, "image_features": features})


def test_without_any_image_the_answer_is_that_of_hidden_ones(finetuned):
    [model], _, task = load(finetuned.best)
    net_input = batch(task)
    net_input["image_mask"][:] = False
    bare = {name: x for name, x in net_input.items() if not name.startswith("image")}
    torch.testing.assert_close(model(**net_input)[0], model(**bare)[0])


# -- training -------------------------------------------------------------------------------------


def test_a_frozen_backbone_stays_as_it_was_and_is_in_the_checkpoint(train, options, tmp_path):
    trained = train(tmp_path, *options)
    after = backbone_weights(trained.last)
    for name, before in initial_weights().items():
        assert torch.equal(after[name], before), name
    names = torch.load(trained.last, weights_only=True)["last_optimizer_state"]["state"]
    text_only = sum(not n.startswith("encoder.backbone.") for n in weights(trained.last))
    assert len(names) == text_only  # the optimiser has nothing of it


def test_weights_learn_from_the_layer_on_and_statistics_stay(finetuned):
    after = backbone_weights(finetuned.last)
    changed = {n for n, before in initial_weights().items() if not torch.equal(after[n], before)}
    assert changed == {
        name
        for name in after
        if name.startswith(f"body.{LAST}.") and not name.endswith(("mean", "var", "tracked"))
    }


@pytest.mark.parametrize("factor", [1, 0.01])
def test_the_backbone_learns_at_its_own_rate(train, options, tmp_path, factor):
    """Adam's first step is as long as the learning rate."""
    trained = train(
        tmp_path,
        *options,
        *("--image-finetune-from", LAST, "--image-lr-factor", factor, "--max-update", "1"),
    )
    after, before = backbone_weights(trained.last), initial_weights()
    moved = max((after[name].float() - before[name].float()).abs().max() for name in after)
    assert moved == pytest.approx(0.01 * factor, rel=0.02)


def test_a_rate_of_its_own_in_half_precision(options, parse):
    """fairseq's float32 copies of the weights keep the mark of the backbone's."""
    half = ("--fp16", "--fp16-no-flatten-grads")
    cfg = parse(*options, "--image-finetune-from", LAST, "--image-lr-factor", "0.1", *half)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model).half()
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = FP16Optimizer.build_optimizer(cfg, learning)
    before = [weight.clone() for weight in optimizer.fp32_params]
    for weight in learning:
        weight.grad = torch.ones_like(weight)
    optimizer._needs_sync = True  # as after a backward pass
    task.optimizer_step(optimizer, model, 0)
    for copy, old, weight in zip(optimizer.fp32_params, before, learning):
        rate = 0.001 if hasattr(weight, "param_group") else 0.01
        torch.testing.assert_close(old - copy, torch.full_like(old, rate), rtol=1e-2, atol=0)


def test_the_files_of_the_beginning_are_not_needed_to_go_on(train, pixel_store, tmp_path):
    """Neither the backbone's weights nor the model that the training started from."""
    network = torchvision.models.squeezenet1_1()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    text = train(tmp_path / "text")
    options = (
        *("--image-h5", pixel_store, "--image-backbone", "squeezenet1_1"),
        *("--image-backbone-weights", tmp_path / "weights.pth", "--init-from", text.last),
    )
    whole = train(tmp_path / "whole", *options, "--max-epoch", "2")
    train(tmp_path / "halves", *options)
    (tmp_path / "weights.pth").unlink()
    text.last.unlink()
    halves = train(tmp_path / "halves", *options, "--max-epoch", "2")
    assert "so --init-from is not read" in halves.run.log
    assert_same_weights(halves.last, whole.last)
    settings = torch.load(halves.last, weights_only=True)["cfg"]["model"]
    assert settings["image_backbone_weights"] == str(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"--init-from .* does not exist"):
        train(tmp_path / "new", *options)
    with pytest.raises(ValueError, match="there is no weights file"):
        train(tmp_path / "new", *options[:-2])


def test_weights_in_one_tensor_cannot_be_told_apart(train, options, tmp_path, parse):
    cfg = parse(*options, "--image-finetune-from", LAST)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    flat = SimpleNamespace(param_groups=[{"params": [torch.nn.Parameter(torch.zeros(9))]}])
    with pytest.raises(ValueError, match="add --fp16-no-flatten-grads, or use --memory-efficient"):
        task.optimizer_step(flat, model, 0)


def test_a_resumed_training_equals_an_uninterrupted_one(finetuned, train, options, tmp_path):
    more = ("--image-finetune-from", LAST, "--image-lr-factor", "0.5", "--image-dropout", "0.3")
    train(tmp_path, *options, *more)
    resumed = train(tmp_path, *options, *more, "--max-epoch", "2")
    assert_same_weights(resumed.last, finetuned.last)


def test_pixels_teach_and_learn_with_distillation(train, finetuned, options, tmp_path):
    run = train(
        tmp_path,
        *options,
        *("--criterion", "kd_label_smoothed_cross_entropy", "--kd-lambda", "0.5"),
        *("--teacher-path", finetuned.best, "--image-finetune-from", "all"),
    ).run
    assert run.logged("train_kd_loss")


def test_a_teacher_of_features_cannot_read_pixels(train, teacher, options, tmp_path):
    with pytest.raises(
        ValueError, match=r"with image features of size 8, but .* has pictures of 64"
    ):
        train(
            tmp_path,
            *options,
            *("--criterion", "kd_label_smoothed_cross_entropy", "--teacher-path", teacher.best),
        )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--image-finetune-from", "layer4"), "mobilenet_v3_small has no layer 'layer4'; it has"),
        (("--image-backbone", "resnet19"), "no classification network 'resnet19'"),
        (("--image-backbone-weights", "none.pth"), "there is no weights file none.pth"),
        (("--image-lr-factor", "0"), "--image-lr-factor 0.0 must be above 0"),
        (("--image-backbone-weights", "checkpoint"), "--image-backbone-weights checkpoint is no"),
    ],
)
def test_what_cannot_work_is_refused(train, options, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, *options, *more)


def test_fine_tuning_needs_pixels(train, store, tmp_path):
    with pytest.raises(ValueError, match="--image-finetune-from layer4 needs pictures"):
        train(tmp_path, "--image-h5", store, "--image-finetune-from", "layer4")


def test_options_about_a_backbone_need_pixels(train, store, tmp_path):
    options = ("--image-backbone", "resnet34", "--image-backbone-layer", "global")
    with pytest.raises(
        ValueError, match=r"--image-backbone resnet34 has no effect: .* pixels"
    ) as error:
        train(tmp_path, "--image-h5", store, *options, "--image-lr-factor", "0.5")
    assert "--image-backbone-layer global has no effect" in str(error.value)
    assert "--image-lr-factor 0.5 has no effect without --image-finetune-from" in str(error.value)


# -- use ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_a_file(train, pixel_store, tmp_path_factory):
    """A frozen model whose backbone's weights came from a file that is gone."""
    folder = tmp_path_factory.mktemp("file")
    path = folder / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    backbone = ("--image-backbone", "squeezenet1_1", "--image-backbone-weights", path)
    trained = train(folder / "model", "--image-h5", pixel_store, *backbone)
    path.unlink()
    return trained


def test_translation_needs_no_weights_file(of_a_file, generate, pixel_store):
    assert len(generate(of_a_file.best, "--image-h5", pixel_store).hypotheses()) == 22


def test_validate_gives_the_loss_of_the_training(finetuned, fairseq, data_bin):
    options = ("--task", "multimodal_translation", "--path", finetuned.last)
    run = fairseq("validate", data_bin, *options, "--batch-size", "8", "--num-workers", "0")
    assert f"loss {finetuned.run.logged('valid_loss')[-1]:g} " in run.text


def test_a_store_of_other_pictures_is_refused(finetuned, generate, store, write_pixels, tmp_path):
    with pytest.raises(ValueError, match=r"with pictures of 64 x 64 pixels, but .* image features"):
        generate(finetuned.best, "--image-h5", store)
    small = write_pixels(tmp_path / "small.h5", 32)
    with pytest.raises(ValueError, match=r"of 64 x 64 pixels, but .* has pictures of 32 x 32"):
        generate(finetuned.best, "--image-h5", small)


@pytest.fixture
def write_pixels():
    def write(path, size):
        writer = ImageStoreWriter(path, ["a"], (size, size, 3), "uint8", pixels_description(size))
        writer.write([0], np.zeros((1, size, size, 3), dtype="uint8"))
        writer.finish()
        return path

    return write
