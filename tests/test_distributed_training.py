"""Training in two processes, on a CPU, with fairseq's own data parallelism.

It must be what one process with ``--update-freq 2`` does. fairseq deals the mini-batches out in turn:
of each two that the one process adds up, rank 0 gets the first and rank 1 the second.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple

import pytest
import torch
from fairseq import tasks

MODEL = shlex.split(
    "--arch cross_modal_rnn_tiny --encoder-embed-dim 32 --encoder-hidden-size 32 "
    "--decoder-embed-dim 32 --decoder-hidden-size 32 --fusion-dim 16 --fusion-heads 2 "
    "--fusion-ffn-dim 32 --dropout 0 --embed-dropout 0 --fusion-dropout 0"
)
"""of the sizes of `teacher`, from which it starts: what is new gets no BLEU"""
DATA = shlex.split(
    "--task multimodal_translation --image-missing mask --num-workers 0 --batch-size 10 "
    "--required-batch-size-multiple 1 --batch-size-valid 8"
)
"""7 mini-batches in training and 3 in validation: at the end there is none left for rank 1"""
TRAINING = shlex.split(
    "--label-smoothing 0.1 --optimizer sgd --momentum 0.9 --lr 0.2 --clip-norm 1 "
    "--no-epoch-checkpoints --log-format json --log-interval 1"
)
"""not Adam, to which the rounding error of a gradient that should be 0 is as good as any other"""
KD = shlex.split(
    "--criterion kd_label_smoothed_cross_entropy --kd-lambda 0.3 --kd-lambda-end 0.7 "
    "--kd-lambda-updates 8"
)
BLEU = ("--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 20}')
DISTRIBUTED = shlex.split(
    "--distributed-world-size 2 --distributed-no-spawn --distributed-backend gloo "
    "--ddp-backend legacy_ddp"
)

A2D = shlex.split("--a2d-families cross,fusion --a2d-weight 2 --decoder-attention-heads 2")

IN_TRAINING = (
    *("loss", "nll_loss", "kd_loss", "kd_lambda", "a2d_cross", "a2d_fusion"),
    *("gnorm", "wpb", "bsz"),
)
IN_VALIDATION = ("valid_loss", "valid_nll_loss", "valid_bleu")
LIMIT = 300
"""seconds, after which two processes are taken to wait for each other in vain"""


class Training(NamedTuple):
    """What a training has said and learned."""

    updates: List[Dict[str, float]]
    """what was logged of each"""
    validation: Dict[str, float]
    """of the last epoch"""
    weights: Dict[str, torch.Tensor]
    """the model's"""
    aligners: Dict[str, torch.Tensor]
    """the criterion's weights, if it has any"""


def read_training(log, folder) -> Training:
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    stats = [json.loads(line) for line in re.findall(r'{"epoch".*}$', log, re.MULTILINE)]
    return Training(
        [logged(s, IN_TRAINING) for s in stats if "gnorm" in s],
        [logged(s, IN_VALIDATION) for s in stats if "valid_loss" in s][-1],
        state["model"],
        state["criterion"] or {},
    )


def logged(stats, names):
    return {name: float(stats[name]) for name in names if name in stats}


def assert_same(found: Training, expected: Training):
    """But for rounding; what is logged has three digits."""
    assert len(found.updates) == len(expected.updates) == 4
    for number, (update, other) in enumerate(zip(found.updates, expected.updates), 1):
        assert update == pytest.approx(other, abs=0.0015), number
    assert found.validation == pytest.approx(expected.validation, abs=0.0015)
    torch.testing.assert_close(found.weights, expected.weights)
    torch.testing.assert_close(found.aligners, expected.aligners)


# -- the processes --------------------------------------------------------------------------------


@contextlib.contextmanager
def free_port():
    """A port of this machine that nobody else is given.

    It is bound all the time, but nobody listens: then one may who, like torch, reuses addresses.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("", 0))
        yield place.getsockname()[1]


def run_together(commands, logs):
    """Run commands at the same time; where one fails, the others are ended."""
    with contextlib.ExitStack() as stack:
        processes = []
        for command, log in zip(commands, logs):
            output = stack.enter_context(log.open("w"))
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                list(map(str, command)), stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            stack.callback(process.kill)
            processes.append(process)
        deadline = time.monotonic() + LIMIT
        codes = [None]
        while None in codes and not any(codes) and time.monotonic() < deadline:
            time.sleep(0.05)
            codes = [process.poll() for process in processes]
    assert codes == [0] * len(commands), "\n".join(
        f"{log.name} ended with {code}:\n{log.read_text()[-3000:]}"
        for log, code in zip(logs, codes)
    )


@pytest.fixture(scope="module")
def two_processes(root, data, tmp_path_factory):
    """A function that trains in two: (save-dir of each rank, *options) -> Training of rank 0."""

    def train(save_dirs, *options) -> Training:
        command = [sys.executable, "-m", "fairseq_cli.train", data, "--cpu"]
        command += ["--user-dir", root / "caf_dkd_plugin", *MODEL, *DATA, *TRAINING, *options]
        folder = tmp_path_factory.mktemp("logs")
        logs = [folder / f"rank{rank}.log" for rank in range(2)]
        with free_port() as port:
            together = (*DISTRIBUTED, "--distributed-init-method", f"tcp://localhost:{port}")
            run_together(
                [
                    [*command, *together, "--distributed-rank", rank, "--save-dir", save_dir]
                    for rank, save_dir in enumerate(save_dirs)
                ],
                logs,
            )
        return read_training(logs[0].read_text(), save_dirs[0])

    return train


@pytest.fixture(scope="module")
def one_process(fairseq, data):
    """A function that trains in one: (save-dir, *options) -> Training."""

    def train(save_dir, *options) -> Training:
        settings = (*MODEL, *DATA, *TRAINING, "--update-freq", "2", "--save-dir", save_dir)
        return read_training(fairseq("train", data, *settings, *options).log, save_dir)

    return train


# -- what they learn from -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(data_bin, parse, tmp_path_factory):
    """`data_bin`, but in the first epoch rank 1 gets no sentence whose image is in a store."""
    cfg = parse(*DATA)
    task = tasks.setup_task(cfg.task)
    task.load_dataset("train")
    settings = cfg.dataset
    batches = task.get_batch_iterator(
        task.dataset("train"),
        max_sentences=settings.batch_size,
        required_batch_size_multiple=settings.required_batch_size_multiple,
        seed=cfg.common.seed,
        num_shards=2,
        shard_id=1,
    ).next_epoch_itr()
    sentences = [int(sentence) for batch in batches if batch for sentence in batch["id"]]
    folder = shutil.copytree(data_bin, tmp_path_factory.mktemp("data") / "bin")
    ids = (folder / "train.images").read_text().splitlines()
    for sentence in sentences:
        ids[sentence] = "absent.png"
    (folder / "train.images").write_text("".join(f"{line}\n" for line in ids))
    return folder


@pytest.fixture(scope="module")
def distilled(stock, store, teacher):
    """The options of a training with features of images and a live teacher."""
    teaching = (*KD, "--teacher-path", stock("lstm").last)
    return ("--image-h5", store, "--init-from", teacher.best, *teaching, *BLEU)


@pytest.fixture(scope="module")
def first_epoch(two_processes, distilled, tmp_path_factory):
    """The folder of each rank, and the training."""
    folder = tmp_path_factory.mktemp("two")
    save_dirs = [folder / "rank0", folder / "rank1"]
    return save_dirs, two_processes(save_dirs, *distilled, "--max-epoch", "1")


@pytest.fixture(scope="module")
def cache(cache_teacher, stock, data, tmp_path_factory):
    """What the teacher of `distilled` says, written down."""
    path = tmp_path_factory.mktemp("cache") / "teacher.h5"
    command = [data, "--teacher-path", stock("lstm").last, "--topk", "8", "--output", path]
    assert cache_teacher.main(list(map(str, command))) == 0
    return path


# -- tests ----------------------------------------------------------------------------------------


def test_features_and_a_live_teacher(first_epoch, one_process, distilled, tmp_path):
    _, found = first_epoch
    assert_same(found, one_process(tmp_path, *distilled, "--max-epoch", "1"))
    assert all(update["kd_loss"] > 0.1 for update in found.updates)
    assert found.validation["valid_bleu"] > 5


def test_only_rank_0_writes(first_epoch):
    (own, other), _ = first_epoch
    assert {path.name for path in own.iterdir()} == {"checkpoint_best.pt", "checkpoint_last.pt"}
    assert not other.exists()


def test_going_on_with_a_cache(first_epoch, two_processes, one_process, cache, store, tmp_path):
    """Rank 0 sends the checkpoint to rank 1.

    In the last update fairseq gives rank 1 a mini-batch of the validation that was before, of which
    the cache knows nothing, and ignores it.
    """
    (begun, _), before = first_epoch
    together, alone = tmp_path / "together", tmp_path / "alone"
    for folder in (together, alone):
        shutil.copytree(begun, folder)
    options = ("--image-h5", store, *KD, "--teacher-cache", cache, "--max-epoch", "2")
    options += ("--validate-interval-updates", "3")
    found = two_processes([together, together], *options)
    assert_same(found, one_process(alone, *options))
    assert found.updates[0]["kd_lambda"] > before.updates[-1]["kd_lambda"]


def test_attention_alignment(two_processes, one_process, store, teacher, tmp_path):
    """Rank 1 has no image to attend to in the first epoch, and in each a mini-batch less."""
    options = ("--image-h5", store, *KD, "--teacher-path", teacher.best, *A2D, "--max-epoch", "1")
    found = two_processes([tmp_path / "together", tmp_path / "together"], *options)
    assert_same(found, one_process(tmp_path / "alone", *options))
    assert all(update["a2d_cross"] > 0 and "a2d_fusion" in update for update in found.updates)
    one_process(tmp_path / "begun", *options, "--max-update", "1")
    begun = torch.load(tmp_path / "begun" / "checkpoint_last.pt", weights_only=True)["criterion"]
    assert set(begun) == {f"alignment.aligners.{family}.weight" for family in ("cross", "fusion")}
    for name, weight in found.aligners.items():
        assert not torch.allclose(weight, begun[name]), name  # they learn


def test_pictures_for_a_backbone_that_learns(
    two_processes, one_process, pixel_store, backbone_options, tmp_path
):
    options = ("--criterion", "label_smoothed_cross_entropy", "--image-h5", pixel_store)
    options += (*backbone_options, "--image-finetune-from", "features.12", "--max-epoch", "1")
    found = two_processes([tmp_path / "together", tmp_path / "together"], *options)
    assert_same(found, one_process(tmp_path / "alone", *options))
