import math
import re

import numpy as np
import pytest
import torch

from caf_dkd_plugin.data.split_files import split_files
from caf_dkd_plugin.data.split_images import image_rows, read_split_ids
from caf_dkd_plugin.evaluation.image_reader import load_image_reader
from caf_dkd_plugin.evaluation.log_probability import Surprisal, surprisal


@pytest.fixture(scope="module")
def ask(data_bin, store):
    """A function that gives what the test set costs a model: (checkpoint, max_tokens) -> Surprisal."""

    def ask(checkpoint, max_tokens=4000, lines=None):
        reader = load_image_reader(str(checkpoint), str(data_bin), str(store), cpu=True)
        task = reader.task
        task.load_dataset("test")
        pairs = task.dataset("test")
        ids = read_split_ids(split_files(task.cfg, str(data_bin), False), "test")
        rows, _ = image_rows(reader.images, ids, "test")
        lines = np.arange(len(pairs)) if lines is None else lines
        samples = reader.samples(pairs, rows, lines, max_tokens)
        return surprisal(reader.models, samples, task.target_dictionary.pad())

    return ask


def test_it_is_what_validate_says(ask, fairseq, data_bin, store, teacher):
    run = fairseq(
        *("validate", data_bin, "--task", "multimodal_translation", "--path", teacher.best),
        *("--valid-subset", "test", "--image-h5", store, "--batch-size", "8", "--num-workers", "0"),
    )
    expected = float(re.findall(r"nll_loss ([\d.]+)", run.text)[-1])
    assert ask(teacher.best).per_token() == pytest.approx(expected, abs=6e-4)


def test_batches_and_neighbours_change_nothing(ask, teacher):
    together, apart = ask(teacher.best), ask(teacher.best, max_tokens=20)
    np.testing.assert_allclose(apart.bits, together.bits, rtol=1e-5)
    assert np.array_equal(apart.tokens, together.tokens)
    some = ask(teacher.best, lines=np.array([2, 5, 17]))
    np.testing.assert_allclose(some.bits, together.bits[[2, 5, 17]], rtol=1e-5)


def test_tokens_count_the_end_of_the_sentence(ask, teacher, corpus):
    words = [len(line.split()) for line in (corpus / "text" / "test.de").read_text().splitlines()]
    assert (ask(teacher.best).tokens - 1).tolist() == words


def test_an_ensemble_averages_probabilities(data_bin, store, teacher, student):
    both = load_image_reader(f"{teacher.best}:{student.best}", str(data_bin), str(store), cpu=True)
    both.task.load_dataset("test")
    pairs, pad = both.task.dataset("test"), both.task.target_dictionary.pad()
    rows = np.zeros(len(pairs), dtype=np.int64)
    [sample] = both.samples(pairs, rows, np.array([3]), 4000)
    [target] = sample["target"]
    with torch.no_grad():
        each = [model(**sample["net_input"])[0].softmax(dim=-1)[0] for model in both.models]
    expected = -sum(
        math.log2(sum(float(p[place, token]) for p in each) / 2)
        for place, token in enumerate(target.tolist())
    )
    assert float(surprisal(both.models, [sample], pad).bits[0]) == pytest.approx(expected, rel=1e-5)


def test_means_over_tokens_and_of_sentences():
    found = Surprisal(np.array([2.0, 12.0]), np.array([1, 3]))
    assert found.per_token() == 3.5
    assert found.per_sentence().tolist() == [2, 4]
