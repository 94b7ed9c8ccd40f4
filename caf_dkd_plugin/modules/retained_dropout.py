"""Dropout that can go on after training."""

from typing import List, Optional

import torch.nn.functional as F
from torch import Tensor, nn


class RetainedDropout(nn.Module):
    """Dropout in training and, where fairseq's --retain-dropout asks for it, in generation.

    Args:
        rate: probability with which a number is dropped.
        module_name: by which --retain-dropout-modules chooses it.
    """

    def __init__(self, rate: float, module_name: str):
        super().__init__()
        self.rate = rate
        self.module_name = module_name
        self._retained = False

    @property
    def rate_now(self) -> float:
        """The rate, or 0 where nothing is dropped."""
        return self.rate if self.training or self._retained else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of `x`, of any shape."""
        return F.dropout(x, p=self.rate_now)

    def make_generation_fast_(
        self,
        retain_dropout: bool = False,
        retain_dropout_modules: Optional[List[str]] = None,
        **_,
    ) -> None:
        """fairseq calls it on every module before it generates."""
        chosen = retain_dropout_modules is None or self.module_name in retain_dropout_modules
        self._retained = retain_dropout and chosen
