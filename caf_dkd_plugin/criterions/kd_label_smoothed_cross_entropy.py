"""Label-smoothed cross-entropy mixed with word-level distillation."""

import math
from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
    label_smoothed_nll_loss,
)
from fairseq.logging import metrics

from ..distillation.losses import distillation_loss


@dataclass
class KDLabelSmoothedCrossEntropyCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    kd_lambda: float = field(
        default=0.5,
        metadata={
            "help": "weight of the cross-entropy, 0 to 1: loss = lambda * CE + (1 - lambda) * KD; "
            "1 is no distillation"
        },
    )
    kd_temperature: float = field(
        default=2.0,
        metadata={
            "help": "softens the teacher's and the student's distribution in KD, above 0; "
            "KD is multiplied by its square"
        },
    )


@register_criterion(
    "kd_label_smoothed_cross_entropy", dataclass=KDLabelSmoothedCrossEntropyCriterionConfig
)
class KDLabelSmoothedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """L = lambda * L_CE + (1 - lambda) * L_KD (CAF-DKD, final loss).

    L_CE is fairseq's label-smoothed cross-entropy and L_KD
    :func:`~caf_dkd_plugin.distillation.losses.distillation_loss` to ``sample["teacher"]["log_probs"]``
    (B, T, V), which the task puts there in training. Both are sums over non-pad target tokens.
    Validation has no teacher: its loss is the full L_CE, so that runs with and without distillation
    compare. With lambda = 1 this is fairseq's criterion to the last bit.

    Raises:
        ValueError: lambda or the temperature is out of range; in training, lambda < 1 and the
            sample has no teacher.
    """

    def __init__(
        self,
        task,
        sentence_avg,
        label_smoothing,
        ignore_prefix_size,
        report_accuracy,
        kd_lambda,
        kd_temperature,
    ):
        super().__init__(task, sentence_avg, label_smoothing, ignore_prefix_size, report_accuracy)
        if not 0 <= kd_lambda <= 1:
            raise ValueError(f"--kd-lambda {kd_lambda} must lie between 0 and 1")
        if not 0 < kd_temperature < math.inf:
            raise ValueError(f"--kd-temperature {kd_temperature} must be above 0 and finite")
        self.kd_lambda = kd_lambda
        self.kd_temperature = kd_temperature

    def forward(self, model, sample, reduce=True):
        """The loss of a mini-batch, a sum; see the class.

        Returns:
            the loss, the sample size that the gradient is divided by, and what to log.
        """
        distil = model.training and self.kd_lambda < 1
        if distil and "teacher" not in sample:
            raise ValueError(
                f"--kd-lambda {self.kd_lambda} asks for distillation, but the mini-batch has no "
                "teacher. Use --task multimodal_translation with --teacher-path, or --kd-lambda 1."
            )
        if not distil:
            return super().forward(model, sample, reduce=reduce)

        net_output = model(**sample["net_input"])
        log_probs, target = self.get_lprobs_and_target(model, net_output, sample)  # (N, V), (N,)
        cross_entropy, nll_loss = label_smoothed_nll_loss(
            log_probs, target, self.eps, ignore_index=self.padding_idx, reduce=reduce
        )
        kd_loss = distillation_loss(
            log_probs,
            self._teacher_log_probs(sample),
            target.ne(self.padding_idx),
            self.kd_temperature,
        )
        kd_loss = kd_loss.sum() if reduce else kd_loss.unsqueeze(-1)  # like cross_entropy
        loss = self.kd_lambda * cross_entropy + (1 - self.kd_lambda) * kd_loss

        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        logging_output = {
            "loss": loss.data,
            "nll_loss": nll_loss.data,
            "kd_loss": kd_loss.data,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        if self.report_accuracy:
            correct, total = self.compute_accuracy(model, net_output, sample)
            logging_output["n_correct"] = correct.item()
            logging_output["total"] = total.item()
        return loss, sample_size, logging_output

    def _teacher_log_probs(self, sample):
        """(N, V), the positions that `get_lprobs_and_target` keeps."""
        log_probs = sample["teacher"]["log_probs"][:, self.ignore_prefix_size :]
        return log_probs.flatten(0, 1)

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Aggregate logging outputs from data parallel training; losses in base 2."""
        super().reduce_metrics(logging_outputs)
        if any("kd_loss" in log for log in logging_outputs):
            kd_loss = sum(log.get("kd_loss", 0) for log in logging_outputs)
            sample_size = sum(log.get("sample_size", 0) for log in logging_outputs)
            metrics.log_scalar("kd_loss", kd_loss / sample_size / math.log(2), sample_size, round=3)
