"""What the tests share: the quickstart's corpus, made small, and fairseq's commands run on it.

Fixtures of session scope are made once and only read.
"""

import contextlib
import functools
import importlib
import importlib.util
import io
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from omegaconf_copies import copies_without_parents

from caf_dkd_plugin.data.image_store import Description
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "caf_dkd_plugin"

DESCRIPTION = Description("made-up", "grid", "none", "0" * 64, "none")
REGIONS = 4

TINY = shlex.split(
    "--arch cross_modal_rnn_tiny --encoder-embed-dim 32 --encoder-hidden-size 32 "
    "--decoder-embed-dim 32 --decoder-hidden-size 32 --fusion-dim 16 --fusion-heads 2 "
    "--fusion-ffn-dim 32"
)
TRAINING = shlex.split(
    "--task multimodal_translation --criterion label_smoothed_cross_entropy --label-smoothing 0.1 "
    "--optimizer adam --lr 0.01 --batch-size 8 --max-epoch 1 --num-workers 0 --log-format json "
    "--no-epoch-checkpoints"
)
STOCK = {
    "transformer": shlex.split(
        "--arch transformer --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
        "--encoder-attention-heads 2 --decoder-layers 1 --decoder-embed-dim 16 "
        "--decoder-ffn-embed-dim 16 --decoder-attention-heads 2"
    ),
    "lstm": shlex.split(
        "--arch lstm --encoder-layers 1 --encoder-embed-dim 16 --encoder-hidden-size 16 "
        "--encoder-bidirectional --decoder-layers 1 --decoder-embed-dim 16 "
        "--decoder-hidden-size 16 --decoder-out-embed-dim 16"
    ),
}
"""fairseq's own architectures, small"""
GENERATION = shlex.split(
    "--task multimodal_translation --beam 2 --max-len-b 20 --batch-size 8 --num-workers 0"
)

torch.set_num_threads(1)  # the models are tiny: threads would cost more than they save


class Run(NamedTuple):
    """What a fairseq command has said."""

    out: str
    log: str

    @property
    def text(self) -> str:
        """Both: fairseq-validate turns its log to the standard output."""
        return self.out + self.log

    def logged(self, name: str) -> List[float]:
        """Every value of a statistic, such as "valid_loss", in the order of the log; at least one."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith('{"epoch"')]
        values = [float(line[name]) for line in lines if name in line]
        assert values, f"{name} is not in the log"
        return values

    def hypotheses(self) -> Dict[int, str]:
        """The translation of each sentence."""
        found = re.findall(r"^H-(\d+)\t[^\t]*\t(.*)$", self.out, re.MULTILINE)
        return {int(sentence): text for sentence, text in found}

    def bleu(self) -> float:
        return float(re.search(r"BLEU\S* = ([\d.]+)", self.out).group(1))


class Trained(NamedTuple):
    """A finished training."""

    run: Run
    folder: Path

    @property
    def last(self) -> Path:
        return self.folder / "checkpoint_last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoint_best.pt"


@pytest.fixture(scope="session", autouse=True)
def quick_settings():
    """What every test and fixture that runs fairseq in this process spares."""
    with copies_without_parents():
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def load_script():
    """A function that gives a script of preprocess/, which is no package, as a module; loaded once."""
    folder = str(ROOT / "preprocess")

    def load(name):
        known = f"preprocess_{name}"
        if known not in sys.modules:
            spec = importlib.util.spec_from_file_location(known, f"{folder}/{name}.py")
            sys.modules[known] = importlib.util.module_from_spec(
                spec
            )  # its workers pickle its classes
            with mock.patch.object(sys, "path", [folder, *sys.path]):  # as where a script is run
                spec.loader.exec_module(sys.modules[known])
        return sys.modules[known]

    return load


@pytest.fixture(scope="session")
def cache_teacher(load_script):
    return load_script("cache_teacher")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """The quickstart's corpus, small: text/SPLIT.{en,de,images,senses} and images/*.png.

    The numbers of valid and test are no multiples of 8, which fairseq-fixed would not notice.
    """
    folder = tmp_path_factory.mktemp("corpus")
    script = ROOT / "examples" / "quickstart" / "make_corpus.py"
    counts = shlex.split("--train 64 --valid 20 --test 22 --seed 1")
    subprocess.run([sys.executable, script, "--output", folder, *counts], check=True)
    return folder


@pytest.fixture(scope="session")
def data_bin(corpus, fairseq, tmp_path_factory) -> Path:
    """The corpus binarised, with SPLIT.images; every seventh sentence has no image.

    The dictionaries have the words of all splits: no word is unknown.
    """
    folder = tmp_path_factory.mktemp("data") / "bin"
    text, splits = corpus / "text", ("train", "valid", "test")
    languages = ("-s", "en", "-t", "de", "--destdir", folder)
    for lang in ("en", "de"):
        words = "".join((text / f"{split}.{lang}").read_text() for split in splits)
        (folder.parent / f"all.{lang}").write_text(words)
    fairseq("preprocess", *languages, "--trainpref", folder.parent / "all", "--dict-only")
    prefixes = [f"--{split}pref={text / split}" for split in splits]
    dictionaries = ("--srcdict", folder / "dict.en.txt", "--tgtdict", folder / "dict.de.txt")
    fairseq("preprocess", *languages, *prefixes, *dictionaries)
    for split in splits:
        ids = (text / f"{split}.images").read_text().splitlines()
        lines = ["" if number % 7 == 3 else image for number, image in enumerate(ids)]
        (folder / f"{split}.images").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture
def data_copy(data_bin, tmp_path) -> Path:
    """`data_bin`, to be changed."""
    return Path(shutil.copytree(data_bin, tmp_path / "data"))


@pytest.fixture(scope="session")
def write_store():
    """A function that writes a store of random features: (path, ids, D, description, R) -> path."""

    def write(path, ids, size=8, description=DESCRIPTION, regions=REGIONS):
        features = np.random.default_rng(0).normal(size=(len(ids), regions, size))
        writer = ImageStoreWriter(path, ids, (regions, size), "float32", description)
        writer.write(range(len(ids)), features.astype("float32"))
        writer.finish()
        return path

    return write


@pytest.fixture(scope="session")
def store(corpus, tmp_path_factory, write_store) -> Path:
    """An image store with random features of every picture of the corpus."""
    ids = sorted(path.name for path in (corpus / "images").iterdir())
    return write_store(tmp_path_factory.mktemp("store") / "features.h5", ids)


@pytest.fixture(scope="session")
def extract(corpus, tmp_path_factory):
    """A function that makes a store of the corpus's pictures by the real script: (options) -> path."""

    def extract(options) -> Path:
        path = tmp_path_factory.mktemp("extracted") / "images.h5"
        script = ROOT / "preprocess" / "extract_features.py"
        command = [sys.executable, script, "--images", corpus / "images", "--output", path]
        subprocess.run([*command, "--workers", "0", *shlex.split(options)], check=True)
        return path

    return extract


@pytest.fixture(scope="session")
def pixel_store(extract) -> Path:
    """An image store with the pixels of every picture of the corpus, 64 x 64."""
    return extract("--raw --image-size 64")


@pytest.fixture(scope="session")
def backbone_options() -> List[str]:
    """For a store of pixels: a small backbone with random weights."""
    return shlex.split("--image-backbone mobilenet_v3_small --image-backbone-weights none")


@pytest.fixture(scope="session")
def fairseq():
    """A function that runs a fairseq command in this process: (command, *arguments) -> Run."""

    def run(command, *arguments) -> Run:
        out, log = io.StringIO(), io.StringIO()
        handler = logging.StreamHandler(log)
        handler.setLevel(logging.INFO)
        root_logger = logging.getLogger()
        before = root_logger.handlers[:], root_logger.level
        root_logger.addHandler(handler)
        root_logger.setLevel(logging.INFO)
        try:
            _forget_earlier_runs()
            module = importlib.import_module(f"fairseq_cli.{command}")
            plugin = [] if command == "preprocess" else ["--user-dir", PLUGIN, "--cpu"]
            argv = [f"fairseq-{command}", *map(str, [*arguments, *plugin])]
            with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out):
                module.cli_main()
        finally:
            root_logger.handlers[:] = before[0]
            root_logger.setLevel(before[1])
        return Run(out.getvalue(), log.getvalue())

    return run


def _forget_earlier_runs() -> None:
    """Remove what fairseq's commands keep until the process ends."""
    from fairseq import checkpoint_utils
    from fairseq_cli import train

    for function in (checkpoint_utils.save_checkpoint, train.should_stop_early):
        vars(function).clear()
    preprocess_logger = logging.getLogger("fairseq_cli.preprocess")
    for handler in preprocess_logger.handlers[:]:  # of a preprocess.log in some DATA
        preprocess_logger.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="session")
def parse(data_bin):
    """A function that gives fairseq-train's settings without running it: (*options, data=) -> cfg."""

    def parse(*options, data=data_bin):
        from fairseq import options as parsers
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf

        model = [] if "--arch" in options else TINY
        argv = [data, "--user-dir", PLUGIN, "--cpu", *TRAINING, *model, *options]
        with mock.patch.object(sys, "argv", ["fairseq-train", *map(str, argv)]):
            args = parsers.parse_args_and_arch(parsers.get_training_parser())
        return convert_namespace_to_omegaconf(args)

    return parse


@pytest.fixture(scope="session")
def train(fairseq, data_bin):
    """A function that trains a tiny model: (folder, *options, data=) -> Trained.

    An option given here wins over the one in TRAINING. Without --arch it is the tiny
    cross_modal_rnn.
    """

    def train(folder, *options, data=data_bin) -> Trained:
        model = [] if "--arch" in options else TINY
        run = fairseq("train", data, *TRAINING, *model, "--save-dir", folder, *options)
        return Trained(run, Path(folder))

    return train


@pytest.fixture(scope="session")
def generate(fairseq, data_bin):
    """A function that translates the test set: (checkpoint, *options, data=) -> Run."""

    def generate(checkpoint, *options, data=data_bin) -> Run:
        return fairseq("generate", data, *GENERATION, "--path", checkpoint, *options)

    return generate


@pytest.fixture(scope="session")
def teacher(train, store, tmp_path_factory) -> Trained:
    """A multimodal model, trained well enough to say something, with BLEU while it trains."""
    return train(
        tmp_path_factory.mktemp("teacher"),
        *("--image-h5", store, "--max-epoch", "8"),
        *("--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 20}'),
        *("--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"),
    )


@pytest.fixture(scope="session")
def stock_options():
    return STOCK


@pytest.fixture(scope="session")
def stock(train, tmp_path_factory):
    """A function that gives a text-only model of fairseq's own task: ("transformer" or "lstm")."""

    @functools.cache
    def make(arch) -> Trained:
        return train(tmp_path_factory.mktemp(arch), "--task", "translation", *STOCK[arch])

    return make


@pytest.fixture(scope="session")
def student(train, store, teacher, tmp_path_factory) -> Trained:
    """A model distilled from `teacher`, with everything that is random switched on."""
    return train(
        tmp_path_factory.mktemp("student"),
        *("--image-h5", store, "--criterion", "kd_label_smoothed_cross_entropy"),
        *("--teacher-path", teacher.best, "--kd-lambda", "0.3", "--image-dropout", "0.3"),
        *("--rnn-cell", "lstm", "--max-epoch", "3"),
    )
