"""Every kind of teacher, live and cached, through whole trainings.

Of a single live teacher much is tested elsewhere: what it says in distillation/test_teacher.py, a resume
and the use of the student without it in test_end_to_end.py, a schedule of lambda in
criterions/test_lambda_schedule.py; that a cache of all symbols trains like its teacher in
preprocess/test_cache_teacher.py; half precision in test_half_precision.py.
"""

import functools
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils, tasks
from fairseq.sequence_scorer import SequenceScorer

MULTIMODAL, TRANSFORMER, LSTM = "cross_modal_rnn", "transformer", "lstm"
ONE, ALL = (MULTIMODAL,), (MULTIMODAL, TRANSFORMER, LSTM)
STOCK = (TRANSFORMER, LSTM)
KD = ("--criterion", "kd_label_smoothed_cross_entropy", "--kd-lambda", "0.2")
EVERYTHING = 136  # symbols of the corpus's German


@pytest.fixture(scope="module")
def checkpoints(teacher, stock):
    """The models that teach, by architecture."""
    return {MULTIMODAL: teacher.best, **{arch: stock(arch).last for arch in STOCK}}


@pytest.fixture(scope="module")
def write_cache(cache_teacher, data_bin, store):
    """A function that writes a teacher's cache by the real script: (path, --teacher-path, k) -> path."""

    def write(path, teachers, k) -> Path:
        command = [data_bin, "--teacher-path", teachers, "--output", path, "--topk", k]
        states = [torch.load(one, weights_only=True)["model"] for one in str(teachers).split(":")]
        look = any("encoder.fusion.text_to_image.query.weight" in each for each in states)
        images = ("--image-h5", store) if look else ()
        assert cache_teacher.main(list(map(str, [*command, *images]))) == 0
        return path

    return write


# -- what an ensemble says ------------------------------------------------------------------------


def batches(pairs, size):
    """A data set in mini-batches whose sentences differ in length."""
    for first in range(0, len(pairs), size):
        batch = pairs.collater([pairs[place] for place in range(len(pairs))[first : first + size]])
        assert batch["net_input"]["src_lengths"].unique().numel() > 1
        yield batch


def by_sentence(batch, rows, pad):
    """Sentence -> what `rows` (B, T, ...) say of its target tokens."""
    lengths = batch["target"].ne(pad).sum(dim=1).tolist()
    numbered = zip(batch["id"].tolist(), rows, lengths)
    return {sentence: row[:length].double() for sentence, row, length in numbered}


def load(paths):
    """The models, and the task of the first.

    fairseq 0.12.2's shortcut for Transformers fails on padding on the left with PyTorch of today.
    """
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(list(map(str, paths)))
    for model in models:
        for module in model.eval().modules():
            if hasattr(module, "can_use_fastpath"):
                module.can_use_fastpath = False
    task.load_dataset("train")
    return models, task


@pytest.fixture(scope="module")
def alone(checkpoints):
    """A function that gives what fairseq makes of a model by itself: -> sentence -> (T, V).

    With the task and the collater of its own training, which for fairseq's models pad on the left, and
    in other mini-batches than the student's.
    """

    @functools.cache
    def probabilities(arch):
        [model], task = load([checkpoints[arch]])
        found, pad = {}, task.source_dictionary.pad()
        for batch in batches(task.dataset("train"), size=5):
            first, *_, last = batch["net_input"]["src_tokens"].eq(pad).any(dim=0).tolist()
            assert (first, last) == (arch in STOCK, arch not in STOCK)
            with torch.no_grad():
                output = model(**batch["net_input"])
            rows = model.get_normalized_probs(output, log_probs=False)
            found.update(by_sentence(batch, rows, pad))
        return found

    return probabilities


@pytest.fixture
def heard(parse, store):
    """A function that gives what the criterion is told: (*options) -> sentence -> log p (T, V)."""

    def log_probs(*options):
        cfg = parse("--image-h5", store, *KD, *options)
        task = tasks.setup_task(cfg.task)
        model = task.build_model(cfg.model)
        task.load_dataset("train")
        told = []

        def criterion(model, sample):
            told.append(sample)
            return torch.zeros(()), 1, {}

        found = {}
        for batch in batches(task.dataset("train"), size=8):
            task.train_step(batch, model, criterion, SimpleNamespace(backward=id), update_num=0)
            said = told[-1]["teacher"]
            if "log_probs" not in said:  # all symbols, the best first
                unsorted = torch.zeros_like(said["topk_log_probs"])
                said = {"log_probs": unsorted.scatter(2, said["topk_ids"], said["topk_log_probs"])}
            found.update(by_sentence(batch, said["log_probs"], task.target_dictionary.pad()))
        return found

    return log_probs


@pytest.mark.parametrize("cached", [False, True], ids=["live", "cached"])
@pytest.mark.parametrize("names", [ALL, STOCK, (MULTIMODAL, LSTM)], ids="+".join)
def test_an_ensemble_says_the_mean_of_what_its_models_say(
    names, cached, checkpoints, alone, heard, write_cache, tmp_path
):
    path = ":".join(str(checkpoints[name]) for name in names)
    options = ("--teacher-path", path)
    if cached:
        options = ("--teacher-cache", write_cache(tmp_path / "cache.h5", path, EVERYTHING))
    found = heard(*options)
    assert sorted(found) == list(range(64))
    for sentence, log_probs in found.items():
        mean = sum(alone(name)[sentence] for name in names) / len(names)
        torch.testing.assert_close(log_probs, mean.log(), atol=1e-5, rtol=0)


def test_an_ensemble_scores_like_fairseqs_own(checkpoints, heard):
    """The target words, by fairseq's average over models that read the same mini-batch."""
    paths = [checkpoints[name] for name in STOCK]
    models, task = load(paths)
    scorer = SequenceScorer(task.target_dictionary)
    found = heard("--teacher-path", ":".join(map(str, paths)))
    for batch in batches(task.dataset("train"), size=16):
        for sentence, [scored] in zip(batch["id"].tolist(), scorer.generate(models, batch)):
            expected = scored["positional_scores"].double()
            log_probs = found[sentence].gather(1, scored["tokens"].unsqueeze(1)).squeeze(1)
            torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)


# -- whole trainings ------------------------------------------------------------------------------


@pytest.fixture
def lent(checkpoints, write_cache, tmp_path):
    """A function that lends a teacher: (architectures, cached) -> option, and the files to take away."""

    def lend(names, cached):
        files = [shutil.copy(checkpoints[name], tmp_path / f"{name}.pt") for name in names]
        path = ":".join(map(str, files))
        if not cached:
            return ("--teacher-path", path), files
        cache = write_cache(tmp_path / "cache.h5", path, k=8)
        return ("--teacher-cache", cache), [*files, cache]

    return lend


@pytest.mark.parametrize(
    ("names", "cached", "divergence"),
    [
        (ONE, False, "reverse-kl"),
        (ALL, False, "js"),
        (ONE, True, "js"),
        (ALL, True, "reverse-kl"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_student_resumes_like_new_and_needs_its_teacher_no_more(
    names, cached, divergence, lent, train, fairseq, generate, data_bin, store, tmp_path
):
    """With a schedule of lambda and image dropout; stopped in the middle of an epoch, of 4 updates.

    The paper's divergence is that of the files named above.
    """
    option, files = lent(names, cached)
    options = (
        *("--image-h5", store, *KD, *option, "--kd-divergence", divergence),
        *("--kd-lambda-end", "0.8", "--kd-lambda-updates", "10", "--image-dropout", "0.3"),
        *("--batch-size", "16", "--max-epoch", "3", "--log-interval", "1"),
    )
    whole = train(tmp_path / "whole", *options)
    train(tmp_path / "parts", *options, "--max-update", "6")
    for file in map(Path, files):
        if cached and file.suffix == ".pt":
            file.unlink()  # a resume needs the cache alone
    parts = train(tmp_path / "parts", *options)
    assert "Loaded checkpoint" in parts.run.log
    expected, found = (torch.load(trained.last, weights_only=True) for trained in (whole, parts))
    assert found["model"].keys() == expected["model"].keys()
    for name, weight in expected["model"].items():
        assert torch.equal(found["model"][name], weight), name
    assert all(value > 0 for value in whole.run.logged("kd_loss"))
    lambdas = [0.2 + 0.6 * min(update / 10, 1) for update in range(12)]
    assert whole.run.logged("kd_lambda") == pytest.approx(lambdas, abs=1e-4)
    assert parts.run.logged("kd_lambda") == pytest.approx(lambdas[6:], abs=1e-4)

    for file in map(Path, files):
        file.unlink(missing_ok=True)
    validation = ("--task", "multimodal_translation", "--batch-size", "16", "--num-workers", "0")
    validated = fairseq("validate", data_bin, *validation, "--path", parts.last)
    loss = float(re.search(r" loss ([\d.]+) ", validated.text).group(1))
    assert loss == whole.run.logged("valid_loss")[-1]
    assert len(generate(parts.last, "--image-h5", store).hypotheses()) == 22
