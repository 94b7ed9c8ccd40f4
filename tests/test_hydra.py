"""fairseq-hydra-train: the YAMLs say what the example scripts say, and the method works with them."""

import importlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from fairseq import options
from fairseq.dataclass.initialize import add_defaults
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import hydra_train
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf

QUICKSTART = "examples/quickstart"
MULTI30K = "examples/multi30k"
NAMES = ["teacher", "student"]
SIZES = ["1k", "5k", "10k", "full"]


# -- what the commands and the YAMLs say ----------------------------------------------------------


def settings(cfg):
    """What a training goes by: every field of every component, as plain values."""
    add_defaults(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    del plain["scoring"]  # of fairseq-generate
    del plain["distributed_training"]  # fairseq looks at the machine when training starts
    plain.pop("job_logging_cfg", None)  # of hydra
    return plain


@pytest.fixture
def typed(root, tmp_path, monkeypatch):
    """A function that runs a script whose fairseq-train only notes its arguments: -> settings."""
    command = tmp_path / "bin" / "fairseq-train"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {tmp_path}/arguments\n")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"

    folder = tmp_path / "root"  # in which the scripts make what they make
    folder.mkdir()
    (folder / "examples").symlink_to(root / "examples")

    def run(*script):
        monkeypatch.chdir(root)
        subprocess.run(script, cwd=folder, env={"PATH": path}, check=True)
        arguments = (tmp_path / "arguments").read_text().split("\0")[:-1]
        parser = options.get_training_parser()
        return settings(
            convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
        )

    return run


@pytest.fixture
def hydra(root, tmp_path, monkeypatch):
    """A function that is fairseq-hydra-train in this process: (example, name, *overrides)."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # raise, do not exit

    def run(example, name, *overrides):
        monkeypatch.chdir(tmp_path)
        files = ["--config-dir", root / example / "configs", "--config-name", name]
        argv = ["fairseq-hydra-train", *map(str, [*files, *overrides])]
        GlobalHydra.instance().clear()
        log = logging.getLogger()
        before = log.handlers[:], log.level
        try:
            with mock.patch.object(sys, "argv", argv):
                hydra_train.cli_main()
        finally:
            HydraConfig.instance().cfg = None
            log.handlers[:] = before[0]
            log.setLevel(before[1])

    return run


@pytest.fixture
def written(hydra):
    """A function that gives the settings with which fairseq-hydra-train would train."""

    def read(*arguments):
        with mock.patch.object(hydra_train, "pre_main") as main:
            hydra(*arguments)
        return settings(main.call_args.args[0])

    return read


@pytest.fixture(scope="module")
def demo(root):
    """The quickstart's training steps: name -> command."""
    with mock.patch.object(sys, "path", [str(root / QUICKSTART), *sys.path]):
        run = importlib.import_module("run")
    groups = run.steps("demo", run.FULL, seed=1)
    return {step.name: step.command for group in groups for step in group}


@pytest.fixture(scope="module")
def hydra_configs(root):
    """The program that writes the YAMLs of Multi30k."""
    with mock.patch.object(sys, "path", [str(root / MULTI30K), *sys.path]):
        return importlib.import_module("hydra_configs")


def test_multi30k_yaml_and_script_of_the_teacher_say_the_same(typed, written):
    assert written(MULTI30K, "teacher") == typed("bash", f"{MULTI30K}/train_teacher.sh")


@pytest.mark.parametrize("size", SIZES)
def test_multi30k_yamls_and_script_say_the_same(size, typed, written):
    other = "" if size == "1k" else f"-{size}"
    text, save = f"multi30k/student{other}-text", f"multi30k/student{other}"
    script = ["bash", f"{MULTI30K}/train_student.sh"]
    variables = ["env", f"SIZE={size}", f"DATA=multi30k/student-data{other}"]
    without = [*variables, "IMAGES=", f"SAVE={text}"]
    going_on = [*variables, f"INIT={text}/checkpoint_best.pt", f"SAVE={save}"]
    assert written(MULTI30K, f"student-{size}-text") == typed(*without, *script)
    assert written(MULTI30K, f"student-{size}") == typed(*going_on, *script)


def test_multi30k_yamls_are_those_of_the_option_files(root, hydra_configs):
    folder = root / MULTI30K / "configs"
    assert {path.stem for path in folder.glob("*.yaml")} == set(hydra_configs.NAMES)
    for name in hydra_configs.NAMES:
        expected = OmegaConf.create(hydra_configs.as_yaml(name))
        assert OmegaConf.load(folder / f"{name}.yaml") == expected, "run hydra_configs.py"


@pytest.mark.parametrize("name", NAMES)
def test_quickstart_yaml_and_demo_say_the_same(name, demo, typed, written):
    assert written(QUICKSTART, name) == typed("sh", "-c", demo[f"{name}_image"])


def test_a_plus_is_for_what_a_yaml_does_not_say(written):
    """As docs/training.md has it, and as test_documentation.py demands of every command there."""
    said, unsaid = "optimization.max_epoch=15", "model.fusion_heads=8"
    changed = written(MULTI30K, "student-1k", said, f"+{unsaid}")
    assert changed["optimization"]["max_epoch"] == 15
    assert changed["model"]["fusion_heads"] == 8
    for mistake in (unsaid, f"+{said}"):
        with pytest.raises(HydraException):
            written(MULTI30K, "student-1k", mistake)


# -- the method, with its YAMLs -------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(data_bin, store):
    """A function that gives overrides for a training on the small corpus: (save_dir, updates)."""

    def overrides(save_dir, updates):
        return [
            f"task.data={data_bin}",
            f"task.image_h5={store}",
            f"checkpoint.save_dir={save_dir}",
            f"optimization.max_update={updates}",
            "lr_scheduler.warmup_updates=0",
            "dataset.batch_size=8",
            "model.share_all_embeddings=false",
            "common.cpu=true",
        ]

    return overrides


@pytest.fixture(scope="module")
def hydra_teacher(root, short, tmp_path_factory):
    """The quickstart's teacher after two updates, by the command that a user types: -> its folder."""
    folder = tmp_path_factory.mktemp("hydra")
    for shared in ("caf_dkd_plugin", "examples"):  # a clone of the repository
        (folder / shared).symlink_to(root / shared)
    command = Path(sys.executable).parent / "fairseq-hydra-train"
    files = ["--config-dir", f"{QUICKSTART}/configs", "--config-name", "teacher"]
    done = subprocess.run(
        [command, *files, *short("models/teacher", updates=2)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "models" / "teacher"


@pytest.fixture
def hydra_trained(hydra, root, short, tmp_path):
    """A function that trains with a YAML of the quickstart: (name, updates, *overrides) -> folder."""

    def run(name, updates, *overrides):
        plugin = f"common.user_dir={root / 'caf_dkd_plugin'}"
        hydra(QUICKSTART, name, plugin, *short(tmp_path / name, updates), *overrides)
        return tmp_path / name

    return run


def test_both_commands_train_the_same_model(
    hydra_teacher, demo, data_bin, store, fairseq, tmp_path
):
    words = shlex.split(demo["teacher_image"].replace("\\\n", " "))
    words.remove("--share-all-embeddings")
    short = ["--warmup-updates", 0, "--batch-size", 8, "--max-update", 2]
    files = ["--image-h5", store, "--save-dir", tmp_path]
    fairseq("train", data_bin, *words[2:], *short, *files)
    typed, written = (
        torch.load(folder / "checkpoint_last.pt", weights_only=True)
        for folder in (tmp_path, hydra_teacher)
    )
    assert typed["cfg"]["model"] == written["cfg"]["model"]
    assert typed["model"].keys() == written["model"].keys()
    for name, weight in typed["model"].items():
        assert torch.equal(weight, written["model"][name]), name


def test_every_command_reads_its_checkpoint(hydra_teacher, generate, fairseq, data_bin, store):
    checkpoint = hydra_teacher / "checkpoint_best.pt"
    assert len(generate(checkpoint, "--image-h5", store).hypotheses()) == 22
    typed = ["--task", "multimodal_translation", "--batch-size", "8", "--num-workers", "0"]
    validation = fairseq("validate", data_bin, *typed, "--path", checkpoint)
    assert "valid on 'valid'" in validation.text


def test_training_goes_on_and_the_result_may_teach(
    hydra_teacher, hydra_trained, generate, store, tmp_path
):
    shutil.copytree(hydra_teacher, tmp_path / "teacher")
    teacher = hydra_trained("teacher", 3)
    log = tmp_path / "hydra_train.log"
    assert "(epoch 1 @ 2 updates)" in log.read_text()
    assert "num_updates: 3 >= max_update: 3" in log.read_text()

    student = hydra_trained("student", 2, f"task.teacher_path={teacher}/checkpoint_last.pt")
    assert "kd_loss" in log.read_text()
    assert generate(student / "checkpoint_last.pt", "--image-h5", store).hypotheses()


# -- presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model._name=cross_modal_rnn_tiny", "model.encoder_embed_dim=256"],
            "cross_modal_rnn_tiny has no effect in a YAML.*: encoder_embed_dim is 256, not 128. .*"
            "{_name: cross_modal_rnn, encoder_embed_dim: 128, .*, fusion_ffn_dim: 256}",
        ),
        (
            ["model._name=cross_modal_rnn_paper"],
            "encoder_layers is 1, not 0; fusion_heads is 4, not 1. .*"
            "{_name: cross_modal_rnn, encoder_layers: 0, fusion_dim: 128, fusion_heads: 1}",
        ),
    ],
)
def test_a_preset_in_a_yaml_is_an_error_with_its_remedy(overrides, message, hydra_trained):
    with pytest.raises(ValueError, match=message):
        hydra_trained("teacher", 1, *overrides)


def test_a_preset_on_the_command_line_is_written_out(parse):
    model = parse("--arch", "cross_modal_rnn_tiny", "--encoder-embed-dim", "256").model
    assert model._name == "cross_modal_rnn"
    assert (model.encoder_embed_dim, model.encoder_hidden_size, model.fusion_dim) == (256, 128, 128)


def test_a_checkpoint_that_names_its_preset_still_works(
    hydra_teacher, train, generate, store, tmp_path
):
    """As before presets were written out."""
    state = torch.load(hydra_teacher / "checkpoint_last.pt", weights_only=True)
    state["cfg"]["model"]["_name"] = "cross_modal_rnn_tiny"
    torch.save(state, tmp_path / "old.pt")
    old, new = (
        generate(checkpoint, "--image-h5", store).out
        for checkpoint in (tmp_path / "old.pt", hydra_teacher / "checkpoint_last.pt")
    )
    assert old == new
    criterion = ["--criterion", "kd_label_smoothed_cross_entropy"]
    teacher = ["--teacher-path", tmp_path / "old.pt"]
    student = train(tmp_path / "student", "--image-h5", store, *criterion, *teacher)
    assert student.run.logged("train_kd_loss")
