"""Mini-batches from which no sentence is missing."""

import numpy as np
from fairseq.data import BaseWrapperDataset


class CompleteDataset(BaseWrapperDataset):
    """A language-pair data set of which every sentence lands in a mini-batch.

    fairseq-fixed 0.12.3.1, the fairseq for Python 3.11 and later, silently leaves out the last
    sentences of a split, the longest ones, wherever their number is no multiple of
    ``--required-batch-size-multiple`` (8): in training, validation and generation. Here they follow
    in batches of their own. On official fairseq 0.12.2, which has no such defect, nothing changes.
    """

    @property
    def src(self):
        return self.dataset.src

    @property
    def tgt(self):
        return self.dataset.tgt

    def collater(self, samples, pad_to_length=None):
        """Merge samples into a mini-batch, as the data set inside does."""
        return self.dataset.collater(samples, pad_to_length=pad_to_length)

    def batch_by_size(
        self, indices, max_tokens=None, max_sentences=None, required_batch_size_multiple=1
    ):
        """fairseq's batches, then those of the sentences it left out."""
        batches = list(
            self.dataset.batch_by_size(
                indices,
                max_tokens=max_tokens,
                max_sentences=max_sentences,
                required_batch_size_multiple=required_batch_size_multiple,
            )
        )
        used = np.concatenate(batches) if batches else np.empty(0, dtype=np.int64)
        left_out = np.asarray(indices)[~np.isin(indices, used)]
        if len(left_out):
            batches += self.dataset.batch_by_size(
                left_out,
                max_tokens=max_tokens,
                max_sentences=max_sentences,
                required_batch_size_multiple=1,
            )
        return batches
