"""Translations as fairseq-generate makes them."""

from typing import Any, Dict, Iterable, List, Optional, Sequence

import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import GenerationConfig
from fairseq.tasks import FairseqTask

from .outputs import PIECE


def translate(
    task: FairseqTask,
    models: Sequence[torch.nn.Module],
    samples: Iterable[Dict[str, Any]],
    beam: int,
    remove_bpe: Optional[str],
) -> List[str]:
    """The best hypothesis for each sentence of mini-batches, in the order of their ids.

    Args:
        task: of the models.
        models: in eval mode; several are an ensemble.
        samples: mini-batches on the models' device.
        beam: width of the beam.
        remove_bpe: how subwords are joined, as in fairseq: "sentencepiece", "@@ " or None.
    """
    generator = task.build_generator(models, GenerationConfig(beam=beam))
    found = {}
    for sample in samples:
        for line, ranked in zip(
            sample["id"].tolist(), task.inference_step(generator, models, sample)
        ):
            tokens = ranked[0]["tokens"].int().cpu()
            found[line] = task.target_dictionary.string(tokens, remove_bpe)
    return [found[line] for line in sorted(found)]


def joining(dictionary: Dictionary) -> Optional[str]:
    """How fairseq joins the subwords of a dictionary; None where its symbols are whole words."""
    if any(symbol.startswith(PIECE) for symbol in dictionary.symbols):
        return "sentencepiece"
    return "@@ " if any(symbol.endswith("@@") for symbol in dictionary.symbols) else None
