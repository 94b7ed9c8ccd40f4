import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, LanguagePairDataset

from caf_dkd_plugin.data.complete_dataset import CompleteDataset


class ForgetfulDataset(LanguagePairDataset):
    """Leaves out the last batch where its size is no multiple, as fairseq-fixed 0.12.3.1 does."""

    def batch_by_size(
        self, indices, max_tokens=None, max_sentences=None, required_batch_size_multiple=1
    ):
        batches = super().batch_by_size(
            indices, max_tokens, max_sentences, required_batch_size_multiple
        )
        if batches and len(batches[-1]) % required_batch_size_multiple:
            batches = batches[:-1]
        return batches


def make_pairs(lengths, kind=ForgetfulDataset):
    dictionary = Dictionary()
    sentences = [torch.full((length,), 4) for length in lengths]
    return kind(sentences, lengths, dictionary, sentences, lengths, dictionary)


def flat(batches):
    return np.concatenate(batches).tolist()


@pytest.mark.parametrize("kind", [ForgetfulDataset, LanguagePairDataset])
@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_every_sentence_lands_in_a_batch_once_and_in_order(kind, count):
    dataset = CompleteDataset(make_pairs(list(range(1, count + 1)), kind))
    indices = dataset.ordered_indices()
    batches = dataset.batch_by_size(indices, max_sentences=8, required_batch_size_multiple=8)
    assert flat(batches) == indices.tolist()


def test_batches_that_fairseq_made_stay_as_they_are():
    pairs = make_pairs([5] * 21, LanguagePairDataset)
    limits = {"max_sentences": 8, "required_batch_size_multiple": 1}
    indices = np.arange(21)
    expected = pairs.batch_by_size(indices, **limits)
    batches = CompleteDataset(pairs).batch_by_size(indices, **limits)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in expected]


def test_the_limits_hold_for_the_sentences_that_were_left_out():
    lengths = list(range(10, 31))
    dataset = CompleteDataset(make_pairs(lengths))
    batches = dataset.batch_by_size(
        dataset.ordered_indices(), max_tokens=100, max_sentences=8, required_batch_size_multiple=8
    )
    assert sorted(flat(batches)) == list(range(21))
    for batch in batches:
        assert len(batch) <= 8
        assert len(batch) * max(lengths[index] for index in batch) <= 100


def test_filtered_sentences_do_not_come_back():
    dataset = CompleteDataset(make_pairs([3] * 21))
    kept = np.array([20, 1, 7, 4, 9, 0, 3, 2, 12, 11])
    batches = dataset.batch_by_size(kept, max_sentences=8, required_batch_size_multiple=8)
    assert flat(batches) == kept.tolist()


def test_source_and_target_can_be_reached():
    pairs = make_pairs([3, 4])
    dataset = CompleteDataset(pairs)
    assert dataset.src is pairs.src
    assert dataset.tgt is pairs.tgt
