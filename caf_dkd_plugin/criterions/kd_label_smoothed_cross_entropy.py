"""Label-smoothed cross-entropy mixed with word-level distillation and with aligned attention."""

import logging
import math
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
    label_smoothed_nll_loss,
)
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from torch import Tensor

from ..distillation.aligners import ALIGNERS
from ..distillation.attention_alignment import FAMILIES, TARGET_FAMILIES, AttentionAlignment
from ..distillation.blockwise_loss import Mixture
from ..distillation.divergences import DIVERGENCES
from ..distillation.losses import mixed_loss
from ..distillation.top_k import TopK

logger = logging.getLogger(__name__)


@dataclass
class KDLabelSmoothedCrossEntropyCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    kd_lambda: float = field(
        default=0.5,
        metadata={
            "help": "weight of the cross-entropy, 0 to 1: loss = lambda * CE + (1 - lambda) * KD; "
            "1 is no distillation"
        },
    )
    kd_lambda_end: Optional[float] = field(
        default=None,
        metadata={
            "help": "lambda goes linearly from --kd-lambda to this over --kd-lambda-updates, and "
            "stays there (default: lambda is constant)"
        },
    )
    kd_lambda_updates: Optional[int] = field(
        default=None, metadata={"help": "number of updates in which lambda gets to --kd-lambda-end"}
    )
    kd_temperature: float = field(
        default=2.0,
        metadata={
            "help": "softens the teacher's and the student's distribution in KD, above 0; "
            "KD is multiplied by its square"
        },
    )
    kd_divergence: ChoiceEnum(list(DIVERGENCES)) = field(
        default="forward-kl",
        metadata={
            "help": "KD is KL(teacher || student), KL(student || teacher) or their Jensen-Shannon "
            "divergence"
        },
    )
    a2d_families: Optional[str] = field(
        default=None,
        metadata={
            "help": "learn where the teacher looks (Align-to-Distill), in these families of attention: "
            f"{', '.join(FAMILIES)}, joined by commas (default: none)"
        },
    )
    a2d_weight: float = field(
        default=1.0,
        metadata={"help": "weight of the attention's divergence in the loss, above 0"},
    )
    a2d_decay: float = field(
        default=0.9,
        metadata={
            "help": "what --a2d-weight is multiplied with after each epoch, above 0 and at most 1"
        },
    )
    a2d_aligner: ChoiceEnum(list(ALIGNERS)) = field(
        default="rowmix",
        metadata={
            "help": "the student's heads are compared with the teacher's as learned mixtures, one "
            "for each of the teacher's (rowmix), as published (conv), or mean with mean (mean)"
        },
    )


@register_criterion(
    "kd_label_smoothed_cross_entropy", dataclass=KDLabelSmoothedCrossEntropyCriterionConfig
)
class KDLabelSmoothedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """L = lambda * L_CE + (1 - lambda) * L_KD (CAF-DKD, final loss) + w * L_A2D (Jin et al. 2024).

    L_CE is fairseq's label-smoothed cross-entropy and L_KD
    :func:`~caf_dkd_plugin.distillation.losses.distillation_loss`, both sums over non-pad target tokens.
    L_A2D, which there is only with --a2d-families, is the sum over families of
    :class:`~caf_dkd_plugin.distillation.attention_alignment.AttentionAlignment`, and its weight w is
    --a2d-weight times --a2d-decay to the power of the epochs before. What the aligners learn belongs to
    the criterion and lands in no model.
    In training the task puts into the sample
        - ``teacher``: ``log_probs`` (B, T, V) at temperature 1, or the fields of
          :class:`~caf_dkd_plugin.distillation.top_k.TopK` as ``topk_ids``, ``topk_log_probs`` (B, T, k),
          ``tail_log_mass`` (B, T, M), ``tail_code`` (B, T, r) and ``tail_shape``, a
          :class:`~caf_dkd_plugin.distillation.tail_shape.TailShape`; with --a2d-families also ``maps`` and
          ``map_masks`` of :class:`~caf_dkd_plugin.distillation.teacher.Answer`, empty where the loss
          will be ignored;
        - ``epoch``, from 1 on;
        - ``update_num``: the number of updates so far, which a resumed training goes on counting.
    Validation has no teacher: its loss is the full L_CE, so that runs with and without distillation
    compare. With lambda = 1 this is fairseq's criterion to the last bit.

    Raises:
        ValueError: an option is out of range or has no effect (all problems, one a line); in training,
            lambda < 1 or aligned attention and the sample has no teacher, or a schedule and no update
            number.
    """

    def __init__(
        self,
        task,
        sentence_avg,
        label_smoothing,
        ignore_prefix_size,
        report_accuracy,
        kd_lambda,
        kd_lambda_end,
        kd_lambda_updates,
        kd_temperature,
        kd_divergence,
        a2d_families,
        a2d_weight,
        a2d_decay,
        a2d_aligner,
    ):
        super().__init__(task, sentence_avg, label_smoothing, ignore_prefix_size, report_accuracy)
        problems = []
        if not 0 <= kd_lambda <= 1:
            problems.append(f"--kd-lambda {kd_lambda} must lie between 0 and 1")
        if kd_lambda_end is not None and not 0 <= kd_lambda_end <= 1:
            problems.append(f"--kd-lambda-end {kd_lambda_end} must lie between 0 and 1")
        if kd_lambda_updates is not None and kd_lambda_updates < 1:
            problems.append(f"--kd-lambda-updates {kd_lambda_updates} must be at least 1")
        if (kd_lambda_end is None) != (kd_lambda_updates is None):
            problems.append(
                f"--kd-lambda-end {kd_lambda_end} and --kd-lambda-updates {kd_lambda_updates} have an "
                "effect only together: give both or neither"
            )
        if kd_lambda_end == kd_lambda:
            problems.append(
                f"--kd-lambda-end {kd_lambda_end} is --kd-lambda itself: leave it and "
                "--kd-lambda-updates out"
            )
        if not 0 < kd_temperature < math.inf:
            problems.append(f"--kd-temperature {kd_temperature} must be above 0 and finite")
        problems += _alignment_problems(a2d_families, a2d_weight, a2d_decay, str(a2d_aligner))
        if problems:
            raise ValueError("\n".join(problems))
        self.a2d_aligner = str(a2d_aligner)
        heads = getattr(task, "aligned_heads", {})
        self.alignment = AttentionAlignment(self.a2d_aligner, heads) if heads else None
        self.a2d_families = a2d_families
        self.a2d_weight = a2d_weight
        self.a2d_decay = a2d_decay
        self.kd_lambda = kd_lambda
        self.kd_lambda_end = kd_lambda_end
        self.kd_lambda_updates = kd_lambda_updates
        self.kd_temperature = kd_temperature
        self.kd_divergence = DIVERGENCES[str(kd_divergence)]
        self.smallest_lambda = kd_lambda if kd_lambda_end is None else min(kd_lambda, kd_lambda_end)

    def forward(self, model, sample, reduce=True):
        """The loss of a mini-batch, a sum; see the class.

        Returns:
            the loss, the sample size that the gradient is divided by, and what to log.
        """
        if not model.training or (self.smallest_lambda == 1 and self.a2d_families is None):
            return super().forward(model, sample, reduce=reduce)
        self._check_taught(sample)
        if not reduce and self.alignment is not None:
            raise ValueError(
                "with --a2d-families there is no loss of each target token (reduce=False): where source "
                "words look is a matter of whole sentences"
            )
        asked = {} if self.alignment is None else {"need_maps": True}
        net_output = model(**sample["net_input"], **asked)
        log_probs, target = self.get_lprobs_and_target(model, net_output, sample)  # (N, V), (N,)
        kd_lambda = self._lambda(sample)
        if self.smallest_lambda < 1:
            found = mixed_loss(
                log_probs,
                target,
                self.padding_idx,
                self._teacher(sample["teacher"]),
                Mixture(kd_lambda, self.eps, self.kd_temperature),
                self.kd_divergence,
            )
            # without a reduction one column, as of fairseq's
            loss, *parts = (x.sum() if reduce else x.unsqueeze(-1) for x in found)
            losses = dict(zip(("nll_loss", "kd_loss"), parts))
        else:
            loss, nll_loss = label_smoothed_nll_loss(
                log_probs, target, self.eps, ignore_index=self.padding_idx, reduce=reduce
            )
            losses = {"nll_loss": nll_loss}
        if self.alignment is not None:
            attention = self._attention_losses(net_output[1], sample)
            losses.update({f"a2d_{family}": found for family, found in attention.items()})
            a2d_weight = self.a2d_weight * self.a2d_decay ** (sample["epoch"] - 1)
            loss = loss + a2d_weight * sum(attention.values())

        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        logging_output = {
            "loss": loss.data,
            **{name: found.data for name, found in losses.items()},
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        # workers' outputs are summed
        if self.kd_lambda_end is not None:
            logging_output["kd_lambda"] = kd_lambda * sample_size
        if self.alignment is not None:
            logging_output["a2d_weight"] = a2d_weight * sample_size
        if self.report_accuracy:
            correct, total = self.compute_accuracy(model, net_output, sample)
            logging_output["n_correct"] = correct.item()
            logging_output["total"] = total.item()
        return loss, sample_size, logging_output

    def _check_taught(self, sample) -> None:
        untaught = "teacher" not in sample or (self.alignment is None and self.a2d_families)
        if not untaught:
            return
        end = "" if self.smallest_lambda == self.kd_lambda else "-end"
        asks = (
            f"--kd-lambda{end} {self.smallest_lambda} asks for distillation"
            if self.a2d_families is None
            else f"--a2d-families {self.a2d_families} asks for a teacher's attention"
        )
        raise ValueError(
            f"{asks}, but the mini-batch has no teacher. Use --task multimodal_translation with "
            "--teacher-path, or leave distillation out (--kd-lambda 1, no --a2d-families)."
        )

    def _attention_losses(self, extra, sample) -> Dict[str, Tensor]:
        maps, said = extra["maps"], sample["teacher"]
        # --num-batch-buckets pads targets before they are shifted: then a query more is no padding.
        real = sample["target"].ne(self.padding_idx)
        masks = {
            family: (real if family in TARGET_FAMILIES else queries, keys)
            for family, (queries, keys) in extra["map_masks"].items()
        }
        if not said["maps"]:  # the loss will be ignored: any maps that give a gradient everywhere
            mean = {family: x.mean(dim=1, keepdim=True) for family, x in maps.items()}
            said = {"maps": mean, "map_masks": masks}  # one head goes with any number
        return self.alignment(maps, masks, said["maps"], said["map_masks"], self.ignore_prefix_size)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """What the aligners have learned.

        They begin anew after a training without them, or with others: the task lets that pass only where
        the optimiser begins anew too.
        """
        own = {name: x.shape for name, x in self.state_dict().items()}
        if own == {name: x.shape for name, x in (state_dict or {}).items()}:
            return super().load_state_dict(state_dict, *args, **kwargs)
        logger.info("the checkpoint has aligned no attention, or other: the aligners begin anew")
        return None

    def _lambda(self, sample) -> float:
        if self.kd_lambda_end is None:
            return self.kd_lambda
        if "update_num" not in sample:
            raise ValueError(
                f"--kd-lambda-end {self.kd_lambda_end} needs the number of the update, which the "
                "mini-batch does not have. Use --task multimodal_translation, or leave it and "
                "--kd-lambda-updates out."
            )
        done = min(sample["update_num"] / self.kd_lambda_updates, 1)
        return (1 - done) * self.kd_lambda + done * self.kd_lambda_end  # both ends are exact

    def _teacher(self, said):
        """What the teacher has said, at the positions N that `get_lprobs_and_target` keeps."""

        def kept(name):
            return said[name][:, self.ignore_prefix_size :].flatten(0, 1)

        if "log_probs" in said:
            return kept("log_probs")
        numbers = [kept(name).float() for name in ("topk_log_probs", "tail_log_mass", "tail_code")]
        return TopK(kept("topk_ids"), *numbers, said["tail_shape"])

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Aggregate logging outputs from data parallel training; losses in base 2."""
        super().reduce_metrics(logging_outputs)
        sample_size = sum(log.get("sample_size", 0) for log in logging_outputs)
        for name in ("kd_loss", *(f"a2d_{family}" for family in FAMILIES)):
            if any(name in log for log in logging_outputs):
                total = sum(log.get(name, 0) for log in logging_outputs)
                bits = total / sample_size / math.log(2)
                metrics.log_scalar(name, bits, sample_size, round=3)
        for name in ("kd_lambda", "a2d_weight"):
            if any(name in log for log in logging_outputs):
                total = sum(log.get(name, 0) for log in logging_outputs)
                # Without a weight it is not averaged over updates: the log shows the last.
                metrics.log_scalar(name, total / sample_size, weight=0, round=4)


def _alignment_problems(families, weight: float, decay: float, aligner: str) -> List[str]:
    found = []
    if not 0 < weight < math.inf:
        found.append(f"--a2d-weight {weight} must be above 0 and finite")
    if not 0 < decay <= 1:
        found.append(f"--a2d-decay {decay} must be above 0 and at most 1")
    defaults = KDLabelSmoothedCrossEntropyCriterionConfig
    given = {"weight": weight, "decay": decay, "aligner": aligner}
    for name, value in given.items():
        if families is None and value != getattr(defaults, f"a2d_{name}"):
            found.append(f"--a2d-{name} {value} has no effect without --a2d-families")
    return found
