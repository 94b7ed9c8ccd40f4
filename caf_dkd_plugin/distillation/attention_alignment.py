"""The loss by which a student learns where the teacher looks (Align-to-Distill, Jin et al. 2024).

Letters: B sentences, C attention maps of a family, X queries, K keys, S source tokens, T target tokens.
"""

from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .aligners import ALIGNERS, FlatConv

TARGET_FAMILIES = ("cross", "decoder_self")
"""whose queries are target tokens"""
SOURCE_FAMILIES = ("fusion", "encoder_self")
"""whose queries are source tokens"""
FAMILIES = (*TARGET_FAMILIES, *SOURCE_FAMILIES)

Maps = Dict[str, Tensor]
"""of each family (B, C, X, K)"""
Masks = Dict[str, Tuple[Tensor, Tensor]]
"""of each family its queries (B, X) and keys (B, K) that are real, bool"""


class AttentionAlignment(nn.Module):
    """The divergence of a student's attention from a teacher's, a sum over target tokens.

    Each family's divergence is a sum over its queries. Where these are source tokens, a sentence's sum
    is multiplied with T / S, its target tokens for each of its source tokens, so that all families
    weigh alike and nothing depends on what else is in a mini-batch. A query counts where both sides
    have a key for it: not in a sentence whose image is hidden from one of them.

    With the published form two decoder families count half each, as there, and nothing else is
    weighted or masked.

    Args:
        aligner: one of :data:`~caf_dkd_plugin.distillation.aligners.ALIGNERS`.
        heads: of each family that is aligned the number of maps of student and teacher.
    """

    def __init__(self, aligner: str, heads: Dict[str, Tuple[int, int]]):
        super().__init__()
        self.aligners = nn.ModuleDict(
            {family: ALIGNERS[aligner](*both) for family, both in heads.items()}
        )
        self.published = ALIGNERS[aligner] is FlatConv
        halved = self.published and set(TARGET_FAMILIES) <= heads.keys()
        self._weights = dict.fromkeys(TARGET_FAMILIES, 0.5) if halved else {}

    def forward(
        self, student: Maps, student_masks: Masks, teacher: Maps, teacher_masks: Masks, first: int
    ) -> Dict[str, Tensor]:
        """Compare.

        Args:
            student: its maps.
            student_masks: and their masks.
            teacher: its maps; no gradient flows to them.
            teacher_masks: and their masks.
            first: the first target token that counts.

        Returns:
            of each family the sum (), in nats.
        """
        found = {}
        for family, aligner in self.aligners.items():
            queries, keys = student_masks[family]
            _, teacher_keys = teacher_masks[family]
            rows = queries & keys.any(dim=1, keepdim=True) & teacher_keys.any(dim=1, keepdim=True)
            one, other = student[family], teacher[family].detach()
            if family in TARGET_FAMILIES and first:
                one, other, rows = one[:, :, first:], other[:, :, first:], rows[:, first:]
            # --amp would mix heads in half precision, in which the smallest probability is zero
            with torch.autocast(one.device.type, enabled=False):
                sentences = aligner(one, other, rows)  # (B,)
            if family in SOURCE_FAMILIES and not self.published:
                target, _ = student_masks["cross"]
                sentences = sentences * target[:, first:].sum(dim=1) / queries.sum(dim=1)
            found[family] = self._weights.get(family, 1) * sentences.sum()
        return found


def family_problems(
    families: Sequence[str],
    student: Optional[Dict[str, int]],
    teacher: Optional[Dict[str, int]],
    other_source: bool,
) -> List[str]:
    """Why these families cannot be aligned.

    Args:
        families: as --a2d-families names them.
        student: of each family that it has the number of maps; None: it gives no maps.
        teacher: of each family that all its models have the number of maps; None: one of them gives no
            maps.
        other_source: whether the teacher reads another side of the sentences.

    Returns:
        one line a problem.
    """
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        return [f"--a2d-families names {', '.join(unknown)}; there are {', '.join(FAMILIES)}"]
    found = []
    if len(set(families)) < len(families):
        found.append(f"--a2d-families {','.join(families)} names a family twice")
    for side, has in (("student", student), ("teacher", teacher)):
        lacking = [family for family in families if has is not None and family not in has]
        if has is None:
            found.append(
                f"--a2d-families asks for the {side}'s attention, which only a cross_modal_rnn or "
                "cross_modal_transformer of --task multimodal_translation gives: train such a "
                f"{side}, or leave the option out"
            )
        elif lacking:
            found.append(
                f"--a2d-families names {', '.join(lacking)}, which the {side} does not have: it has "
                f"{', '.join(has)}"
            )
    apart = [family for family in families if family != "decoder_self"]
    if other_source and apart:
        found.append(
            f"--a2d-families names {', '.join(apart)}, but with --teacher-source-lang the teacher reads "
            "other source tokens: only decoder_self can be aligned"
        )
    return found
