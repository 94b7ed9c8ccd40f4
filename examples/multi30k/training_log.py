"""What fairseq-train says in its log (--log-format json) while it trains."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Optional

_STATISTICS = re.compile(r'\{"epoch": .*\}$')
_PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")


@dataclass(frozen=True)
class TrainingLog:
    """What is known of a training so far, over all calls of fairseq-train."""

    epochs: float = 0.0
    """done, with a part of the present one"""
    updates: int = 0
    validation_bleu: Dict[int, float] = field(default_factory=dict)
    """epoch -> BLEU on the first of --valid-subset"""
    parameters: Optional[int] = None
    """numbers that the model has, the shared ones once"""

    @property
    def best_epoch(self) -> Optional[int]:
        """With the highest BLEU, the last of equal ones, as fairseq's checkpoint_best.pt."""
        bleu = self.validation_bleu
        return max(bleu, key=lambda epoch: (bleu[epoch], epoch)) if bleu else None

    @property
    def best_bleu(self) -> Optional[float]:
        return self.validation_bleu[self.best_epoch] if self.validation_bleu else None


def read_training_log(path: Path, subset: str = "valid") -> TrainingLog:
    """Read a log, which may still be written to.

    Args:
        path: the log; where there is none, nothing is known.
        subset: fairseq's name of the split whose BLEU is wanted.
    """
    if not path.exists():
        return TrainingLog()
    epochs, updates, parameters = 0.0, 0, None
    bleu: Dict[int, float] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        counted = _PARAMETERS.search(line)
        if counted:
            parameters = int(counted[1].replace(",", ""))
        found = _STATISTICS.search(line)
        if not found:
            continue
        try:
            said = json.loads(found[0])
        except ValueError:  # a line that is being written
            continue
        epoch = said["epoch"]
        if "update" in said:  # within an epoch
            epochs = said["update"]
        elif "train_num_updates" in said:  # the end of one
            epochs, updates = float(epoch), int(said["train_num_updates"])
        elif f"{subset}_bleu" in said:
            bleu[epoch] = float(said[f"{subset}_bleu"])
    bleu = {epoch: bleu[epoch] for epoch in sorted(bleu)}
    return TrainingLog(epochs, updates, bleu, parameters)
