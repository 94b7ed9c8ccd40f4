"""The sentences that a teacher is asked about, and how it is asked."""

import math
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from torch import Tensor
from tqdm import tqdm

from caf_dkd_plugin.data.split_files import split_files
from caf_dkd_plugin.data.taught_dataset import texts_of
from caf_dkd_plugin.data.teacher_cache import Text
from caf_dkd_plugin.data.teacher_source import TeacherSourceDataset, length_problems
from caf_dkd_plugin.distillation.teacher import FrozenTeacher, asked
from caf_dkd_plugin.tasks.multimodal_translation import MultimodalTranslationTask

SAMPLED_TOKENS = 4096
"""target tokens, at most about, to which the shape of the tails is fitted and on which the cache is
compared with the teacher"""


class Passage(NamedTuple):
    """The sentences of a split of a folder, as they are read and as the cache knows them."""

    pairs: FairseqDataset
    texts: List[Text]

    @property
    def lengths(self) -> np.ndarray:
        """(L,) number of target tokens of each line."""
        return self.pairs.tgt.sizes


def load_passages(
    task: MultimodalTranslationTask, splits: Sequence[str], lang: str, with_images: bool
) -> List[Passage]:
    """The sentences of all splits, for a teacher that reads `lang` and perhaps images.

    Those of the training set come from every folder of DATA.

    Raises:
        ValueError: a split is not there, twice, or without what the teacher reads.
    """
    if len(set(splits)) < len(splits):
        raise ValueError(f"--splits {' '.join(splits)} names a split twice")
    found = []
    folders = utils.split_paths(task.cfg.data)
    for split in splits:
        training = split == task.cfg.train_subset
        for number, folder in enumerate(folders if training else folders[:1]):
            files = split_files(task.cfg, folder, training)
            texts = texts_of(files, split, lang, with_images)
            task.load_dataset(split, epoch=number + 1, combine=training)
            pairs = task.teaching.with_teacher_source(task.dataset(split), files, split)
            found.append(Passage(pairs, texts))
    return found


def check_lengths(passages: Sequence[Passage], longest: Tuple[int, int], max_tokens: int) -> None:
    """Can the teacher read all of it?

    Args:
        passages: the sentences.
        longest: source and target tokens that it reads.
        max_tokens: what goes into one pass.

    Raises:
        ValueError: sentences are too long, all of them.
    """
    found = []
    for pairs, texts in passages:
        first = 0
        for text in texts:
            lines = slice(first, first + text.lines)
            source, target = source_sizes(pairs)[lines], pairs.tgt.sizes[lines]
            found += length_problems(source, longest[0], f"source tokens of {text.name}")
            found += length_problems(target, longest[1], f"target tokens of {text.name}")
            most = max(pairs.src.sizes[lines].max(), target.max())
            if most > max_tokens:
                found.append(f"--max-tokens {max_tokens}: a sentence of {text.name} has {most}")
            first += text.lines
    if found:
        raise ValueError("\n".join(found))


def source_sizes(pairs: FairseqDataset) -> np.ndarray:
    """(N,) number of tokens that the teacher reads of each sentence."""
    return pairs.sentences.sizes if isinstance(pairs, TeacherSourceDataset) else pairs.src.sizes


class Asking(NamedTuple):
    """A teacher, and how it is asked about sentences."""

    teacher: FrozenTeacher
    pad: int
    """index of the target's padding symbol"""
    symbols: int
    """V"""
    max_tokens: int
    device: torch.device

    @torch.no_grad()
    def about(self, pairs: FairseqDataset, places: Sequence[int]) -> Iterator[Tuple[int, Tensor]]:
        """Each sentence of a mini-batch with the log-probabilities (t, V) of its t target tokens."""
        batch = pairs.collater([pairs[place] for place in places])
        batch = utils.apply_to_sample(lambda x: x.to(self.device), batch)
        said = self.teacher.log_probs(asked(batch), torch.float32)  # (B, T, V)
        lengths = batch["target"].ne(self.pad).sum(dim=1).tolist()
        for row, place in enumerate(batch["id"].tolist()):
            yield place, said[row, : lengths[row]]

    def batches(self, pairs: FairseqDataset, places: np.ndarray) -> Sequence[Sequence[int]]:
        """The same in every run: what a line's neighbours are does not depend on where an earlier one
        stopped, so neither does its last bit."""
        order = np.lexsort((pairs.src.sizes[places], pairs.tgt.sizes[places]))
        return pairs.batch_by_size(places[order], max_tokens=self.max_tokens)


class Sample(NamedTuple):
    """Lines evenly spaced over all passages."""

    passages: Sequence[Passage]
    places: Sequence[np.ndarray]
    """of each passage"""

    @classmethod
    def of(cls, passages: Sequence[Passage], between: bool = False) -> "Sample":
        """About `SAMPLED_TOKENS` target tokens; or those half-way between them, where there are more."""
        tokens = sum(int(passage.lengths.sum()) for passage in passages)
        step = math.ceil(tokens / SAMPLED_TOKENS)
        begin = step // 2 if between else 0
        return cls(passages, [np.arange(begin, len(pairs), step) for pairs, _ in passages])

    @property
    def tokens(self) -> int:
        """Target tokens."""
        return sum(int(part.lengths[places].sum()) for part, places in zip(*self))

    def said(self, asking: Asking, desc: str) -> Iterator[Tuple[int, Tensor]]:
        """Each line's number among all, with the log-probabilities (t, V) of its t target tokens."""
        first = 0
        with tqdm(total=self.tokens, unit="token", desc=desc) as bar:
            for (pairs, texts), places in zip(*self):
                for batch in asking.batches(pairs, places):
                    for place, said in asking.about(pairs, batch):
                        yield first + place, said
                        bar.update(len(said))
                first += sum(text.lines for text in texts)
