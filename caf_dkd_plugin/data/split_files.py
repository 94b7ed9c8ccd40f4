"""How fairseq finds the sentences of a split.

It may read a split from several pairs of files (``train``, ``train1`` ...) and repeat the first of
them (``--upsample-primary``). What goes with the sentences line by line follows them through that
here. What happens later (filtering by length, shuffling, batching) goes by the sentence's index and
needs no care.
"""

import itertools
import os
from typing import List, NamedTuple, Sequence, TypeVar

from fairseq.data import data_utils, indexed_dataset
from fairseq.tasks.translation import TranslationConfig

from ..problems import ProblemsError

Line = TypeVar("Line")


class SplitError(ProblemsError):
    """A split cannot be used as it is; `problems` has one line each."""


class SplitFiles(NamedTuple):
    """The settings by which fairseq finds the files of a split."""

    data: str
    """a binarised folder"""
    source_lang: str
    target_lang: str
    dataset_impl: str
    combine: bool
    """read SPLIT1, SPLIT2 ... too, as fairseq does for the training set"""
    upsample_primary: int
    """how often the first of several parts is repeated"""

    def in_order(self, parts: Sequence[List[Line]]) -> List[Line]:
        """What goes with the lines of each part, in the order of fairseq's data set."""
        repeats = [self.upsample_primary if len(parts) > 1 else 1, *[1] * (len(parts) - 1)]
        return [line for part, times in zip(parts, repeats) for line in part * times]


def split_files(cfg: TranslationConfig, data: str, combine: bool) -> SplitFiles:
    """How fairseq finds the files of a split in a folder."""
    return SplitFiles(
        data, cfg.source_lang, cfg.target_lang, cfg.dataset_impl, combine, cfg.upsample_primary
    )


class Part(NamedTuple):
    """One pair of files of a split."""

    name: str
    """train, train1 ..."""
    prefix: str
    """of its files, less the language"""
    sentences: int


def find_parts(files: SplitFiles, split: str) -> List[Part]:
    """The parts that fairseq reads for a split.

    Raises:
        SplitError: there is none, or it is not binarised.
    """
    if files.dataset_impl == "raw":
        raise SplitError(
            [
                f"{files.data} is read with --dataset-impl raw; what goes with its lines (images, another "
                "side, a teacher's cache) needs binarised sentences. Leave that option out, and with it "
                "--replace-unk of fairseq-generate, which wants it; fairseq-interactive has one without."
            ]
        )
    found = []
    for number in itertools.count():
        name = f"{split}{number or ''}"
        prefix = _prefix(files, name)
        if prefix is None:
            break
        source = data_utils.load_indexed_dataset(
            prefix + files.source_lang, None, files.dataset_impl
        )
        found.append(Part(name, prefix, len(source)))
        if not files.combine:
            break
    if not found:
        raise SplitError(
            [
                f"{files.data} has no split {split!r} for {files.source_lang}-{files.target_lang}. "
                "Binarise it with fairseq-preprocess, or name another."
            ]
        )
    return found


def _prefix(files: SplitFiles, name: str):
    source, target = files.source_lang, files.target_lang
    for pair in (f"{source}-{target}", f"{target}-{source}"):
        prefix = os.path.join(files.data, f"{name}.{pair}.")
        if indexed_dataset.dataset_exists(prefix + source, impl=files.dataset_impl):
            return prefix
    return None
