"""The experiment of examples/multi30k on a tiny Multi30k, for the tests of its parts."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]
MULTI30K = ROOT / "examples" / "multi30k"
LINES = {"train": 64, "val": 20, "test_2016_flickr": 6}
SUBSETS = {"1k": 24, "5k": 40}
EPOCHS = {"1k-undistilled": 12}
"""of the training that is killed; of the others 2"""
EXTRA_EPOCHS = 3
"""with extra sources"""
OPTIONS = """# tiny; BLEU of the pieces, of which one is right after few updates already
--arch cross_modal_rnn_tiny
--encoder-embed-dim 32
--encoder-hidden-size 32
--decoder-embed-dim 32
--decoder-hidden-size 32
--fusion-dim 16
--fusion-heads 2
--fusion-ffn-dim 32
--share-all-embeddings  # as at full size
--criterion {criterion}
--optimizer adam
--lr 0.01
--batch-size 8
--max-epoch {epochs}
--num-workers 0
--ignore-unused-valid-subsets
--eval-bleu
--eval-bleu-args {{"beam":1,"max_len_b":20}}
--best-checkpoint-metric bleu
--maximize-best-checkpoint-metric
"""
TRANSFORMER = """
--encoder-layers 1
--decoder-layers 1
--encoder-ffn-embed-dim 32
--decoder-ffn-embed-dim 32
"""
"""what a Transformer has besides"""


@pytest.fixture(scope="module")
def script():
    """A function that imports one of the experiment's modules."""
    with mock.patch.object(sys, "path", [str(MULTI30K), *sys.path]):
        yield importlib.import_module


def write_options(folder):
    """The option files; reader.options is a teacher's that does not look at images."""
    folder.mkdir()
    for size in SUBSETS:
        for name, criterion in (
            (size, "kd_label_smoothed_cross_entropy"),
            (f"{size}-undistilled", "label_smoothed_cross_entropy"),
        ):
            options = OPTIONS.format(criterion=criterion, epochs=EPOCHS.get(name, 2))
            (folder / f"{name}.options").write_text(options + "--no-epoch-checkpoints\n")
    teacher = OPTIONS.format(criterion="label_smoothed_cross_entropy", epochs=2)
    averaged = "--image-missing mask\n--keep-last-epochs 2\n"
    (folder / "teacher.options").write_text(teacher + averaged)
    reader = teacher.replace("--max-epoch 2", "--max-epoch 4")
    (folder / "reader.options").write_text(reader + "--no-epoch-checkpoints\n")
    for kind in ("substituted", "untranslated"):
        (folder / f"{kind}.options").write_text(f"--max-epoch {EXTRA_EPOCHS}\n")
    for name in ("1k", "1k-undistilled", "teacher"):
        text = (folder / f"{name}.options").read_text().replace(averaged, "")
        text = text.replace("cross_modal_rnn_tiny", "cross_modal_transformer_tiny")
        text = re.sub(r"--\w+-hidden-size 32\n", "", text) + TRANSFORMER
        (folder / f"transformer-{name}.options").write_text(text)
    for kind in ("", "transformer-"):
        families = "cross,encoder_self" if kind else "cross"
        (folder / f"{kind}aligned.options").write_text(f"--a2d-families {families}\n")
    alone = "--criterion kd_label_smoothed_cross_entropy\n--kd-lambda 1\n"
    (folder / "aligned-alone.options").write_text(alone)
    (folder / "image.options").write_text("--image-missing mask\n--image-dropout 0.1\n")
    (folder / "going-on.options").write_text("--lr 0.001\n--valid-subset valid1\n")
    return folder


@pytest.fixture(scope="module")
def option_files(tmp_path_factory):
    """The folder of the option files, of a teacher that does not look at images."""
    folder = write_options(tmp_path_factory.mktemp("options") / "configs")
    (folder / "reader.options").rename(folder / "teacher.options")
    return folder


@pytest.fixture(scope="session")
def multi30k(corpus, tmp_path_factory):
    """A Multi30k of a few sentences, with two subsets and without the held-out test set."""
    root = tmp_path_factory.mktemp("multi30k")
    (root / "text").mkdir()
    (root / "subsets").mkdir()
    for name, split in (("train", "train"), ("val", "valid"), ("test_2016_flickr", "test")):
        for suffix in ("en", "de", "images"):
            lines = (corpus / "text" / f"{split}.{suffix}").read_text().splitlines()
            text = "".join(f"{line}\n" for line in lines[: LINES[name]])
            (root / "text" / f"{name}.{suffix}").write_text(text)
    for size, count in SUBSETS.items():
        numbers = "".join(f"{number}\n" for number in range(count))
        (root / "subsets" / f"train_{size}.lines").write_text(numbers)
    return root


class Experiment:
    """A grid on the tiny Multi30k."""

    lines, subsets, epochs, extra_epochs = LINES, SUBSETS, EPOCHS, EXTRA_EPOCHS

    def __init__(self, folder, root, store, commands, options):
        self.work, self.results = folder / "work", folder / "results"
        self.configs = write_options(folder / "configs")
        self._command = [
            *(commands / "python", MULTI30K / "experiment.py", "--root", root),
            *("--image-h5", store, "--work", self.work, "--results", self.results),
            *("--configs", self.configs, "--vocab-size", "200"),
            *("--seeds", "1", *options),
        ]

    @property
    def words(self):
        """What follows experiment.py on the command line."""
        return [*map(str, self._command[2:])]

    def start(self, *options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*map(str, [*self._command, *options])], cwd=ROOT, **pipes)

    def run(self, *options):
        """(exit code, stdout, stderr)"""
        process = self.start(*options)
        out, errors = process.communicate(timeout=300)
        return process.returncode, out, errors

    def log(self, step):
        path = self.work / "logs" / f"{step}.log"
        return path.read_text() if path.exists() else ""

    def record(self, step):
        return json.loads((self.work / "steps" / f"{step}.json").read_text())

    def result(self, name):
        return json.loads((self.results / f"{name}.json").read_text())

    def files(self):
        """Everything that was made, with its time."""
        found = [path for folder in (self.work, self.results) for path in folder.rglob("*")]
        return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """The folder of python and fairseq's commands, which start at once."""
    folder = tmp_path_factory.mktemp("warm")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "warm_commands.py", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while "ready" not in (line := server.stdout.readline()):
        assert line, "the server has ended"
    yield folder / "bin"
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def tiny_experiment(multi30k, store, commands):
    """A function that gives an experiment in a folder, with options for all its calls."""
    return lambda folder, *options: Experiment(folder, multi30k, store, commands, options)


@pytest.fixture
def problems(script, multi30k, store, tmp_path):
    """A function that gives what is wrong with a command line, with option files of its own."""
    configs = write_options(tmp_path / "configs")

    def read(*options, change=lambda configs: None):
        experiment, inputs = script("experiment"), script("experiment_inputs")
        change(configs)
        paths = ["--root", multi30k, "--configs", configs, "--work", tmp_path / "work"]
        sizes = ["--sizes", "1k", "5k", "--image-h5", store]
        args = experiment.parse_args([*map(str, [*paths, *sizes, *options])])
        try:
            inputs.read_inputs(args)
        except inputs.ExperimentError as error:
            return error.problems
        return []

    return read


@pytest.fixture
def grid(script, problems, multi30k, store, tmp_path):
    """A function that gives the steps of a command line, by name."""

    def steps(*options):
        problems()  # writes the option files
        paths = ["--root", multi30k, "--work", tmp_path, "--image-h5", store]
        words = [*paths, "--configs", tmp_path / "configs", *options]
        args = script("experiment").parse_args([*map(str, words)])
        made = script("experiment_inputs").read_inputs(args).grid.steps()
        return {step.name: step for step in made}

    return steps
