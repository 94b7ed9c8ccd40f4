import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from omegaconf import OmegaConf

import caf_dkd_plugin  # noqa: F401
from caf_dkd_plugin.distillation.divergences import DIVERGENCES
from caf_dkd_plugin.distillation.losses import distillation_loss
from caf_dkd_plugin.distillation.tail_shape import fit_tail_shape
from caf_dkd_plugin.distillation.top_k import top_k

KD = "kd_label_smoothed_cross_entropy"
FAIRSEQ = "label_smoothed_cross_entropy"
PAD, EOS = 1, 2


class Bigrams(BaseFairseqModel):
    """A model as small as can be: the logits of a word depend on the word before."""

    def __init__(self, words):
        super().__init__()
        torch.manual_seed(1)
        self.logits = torch.nn.Embedding(words, words)

    def forward(self, prev_output_tokens):
        return self.logits(prev_output_tokens)


@pytest.fixture(scope="module")
def dictionary():
    words = Dictionary()
    for letter in "abcdefg":
        words.add_symbol(letter)
    return words


@pytest.fixture
def model(dictionary):
    """It is sure of padding after padding, which must not count as accurate."""
    bigrams = Bigrams(len(dictionary))
    with torch.no_grad():
        bigrams.logits.weight[PAD, PAD] = 10
    return bigrams


@pytest.fixture
def build(dictionary):
    """`build(**options)` -> our criterion; `build(FAIRSEQ, **options)` -> fairseq's."""

    def make(name=KD, **options):
        defaults = {"sentence_avg": False, "label_smoothing": 0.1}
        cfg = OmegaConf.structured(CRITERION_DATACLASS_REGISTRY[name](**{**defaults, **options}))
        task = SimpleNamespace(target_dictionary=dictionary)
        return CRITERION_REGISTRY[name].build_criterion(cfg, task)

    return make


@pytest.fixture
def sentences(dictionary):
    """Targets of several lengths, each with the log-probabilities of a teacher (T, V)."""
    torch.manual_seed(0)
    targets = [torch.randint(4, len(dictionary), (length,)) for length in (3, 1, 5, 4)]
    return [(t, torch.randn(len(t), len(dictionary)).log_softmax(-1)) for t in targets]


def collate(sentences, pad_columns=0, teacher=True):
    """A mini-batch; the teacher's numbers at padding are noise."""
    width = max(len(target) for target, _ in sentences) + pad_columns
    targets = torch.full((len(sentences), width), PAD)
    previous = torch.full((len(sentences), width), PAD)
    log_probs = torch.randn(len(sentences), width, sentences[0][1].shape[1]).log_softmax(-1)
    for row, (target, teacher_log_probs) in enumerate(sentences):
        targets[row, : len(target)] = target
        previous[row, : len(target)] = torch.cat([torch.tensor([EOS]), target[:-1]])
        log_probs[row, : len(target)] = teacher_log_probs
    sample = {
        "net_input": {"prev_output_tokens": previous},
        "target": targets,
        "ntokens": int(targets.ne(PAD).sum()),
    }
    return {**sample, "teacher": {"log_probs": log_probs}} if teacher else sample


def run(criterion, model, sample, reduce=True):
    """Loss, gradient of its sum, sample size, logging output."""
    model.zero_grad()
    loss, sample_size, log = criterion(model, sample, reduce=reduce)
    loss.sum().backward()
    return loss.detach(), model.logits.weight.grad.clone(), sample_size, log


def logged(criterion, *logs):
    with metrics.aggregate(new_root=True) as aggregator:
        type(criterion).reduce_metrics(list(logs))
    return aggregator.get_smoothed_values()


OPTIONS = [
    {"label_smoothing": smoothing, "sentence_avg": average, "ignore_prefix_size": prefix,
     "report_accuracy": accuracy}
    for smoothing, average, prefix, accuracy in itertools.product(
        (0.0, 0.1), (False, True), (0, 2), (False, True)
    )
]  # fmt: skip


def assert_identical(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[key])), key


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_lambda_one_is_fairseqs_to_the_last_bit(options, reduce, training, build, model, sentences):
    """Also with a teacher in the sample, and in validation whatever lambda is."""
    model.train(training)
    sample = collate(sentences)
    ours = build(kd_lambda=1.0 if training else 0.3, **options)
    theirs = build(FAIRSEQ, **options)
    loss, gradient, size, log = run(ours, model, sample, reduce)
    expected_loss, expected_gradient, expected_size, expected_log = run(
        theirs, model, sample, reduce
    )
    assert torch.equal(loss, expected_loss)
    assert torch.equal(gradient, expected_gradient)
    assert size == expected_size
    assert_identical(log, expected_log)
    if reduce:
        assert logged(ours, log) == logged(theirs, log)


def kl_by_loops(model, sentences, temperature, prefix=0):
    """T^2 sum KL(teacher || student) over all tokens after the prefix, in Python's float64."""
    total = 0.0
    for target, teacher in sentences:
        previous = [EOS, *target.tolist()[:-1]]
        for step in range(prefix, len(target)):
            distributions = []
            for scores in (teacher[step], model.logits.weight[previous[step]]):
                terms = [math.exp(z / temperature) for z in scores.tolist()]
                distributions.append([term / sum(terms) for term in terms])
            total += sum(p * math.log(p / q) for p, q in zip(*distributions))
    return temperature**2 * total


@pytest.mark.parametrize("kd_lambda", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kd_temperature", [1.0, 2.0])
@pytest.mark.parametrize("options", OPTIONS[::3], ids=lambda o: "-".join(map(str, o.values())))
def test_the_loss_is_lambda_ce_plus_the_rest_kd(
    kd_lambda, kd_temperature, options, build, model, sentences
):
    sample = collate(sentences)
    criterion = build(kd_lambda=kd_lambda, kd_temperature=kd_temperature, **options)
    loss, gradient, size, log = run(criterion, model, sample)
    cross_entropy, ce_gradient, ce_size, ce_log = run(build(FAIRSEQ, **options), model, sample)
    kd = kl_by_loops(model, sentences, kd_temperature, options["ignore_prefix_size"])
    assert loss.item() == pytest.approx(kd_lambda * cross_entropy.item() + (1 - kd_lambda) * kd)
    assert log.pop("kd_loss").item() == pytest.approx(kd)
    assert log.pop("loss") == loss
    assert size == ce_size
    del ce_log["loss"]
    assert_identical(log, ce_log)  # nll_loss, sizes and, when asked for, accuracy
    only_kd = build(kd_lambda=0.0, kd_temperature=kd_temperature, **options)
    kd_gradient = run(only_kd, model, sample)[1]
    torch.testing.assert_close(gradient, kd_lambda * ce_gradient + (1 - kd_lambda) * kd_gradient)


def test_label_smoothing_applies_to_the_cross_entropy_only(build, model, sentences):
    sample = collate(sentences)
    sharp, smooth = (build(label_smoothing=eps, kd_lambda=0.0) for eps in (0.0, 0.3))
    assert torch.equal(run(sharp, model, sample)[0], run(smooth, model, sample)[0])


def test_teacher_equal_to_student_leaves_only_the_cross_entropy(build, model, sentences):
    sample = collate(sentences)
    log_probs = model(**sample["net_input"]).log_softmax(-1).detach()
    sample["teacher"] = {"log_probs": log_probs}
    loss, gradient, _, log = run(build(kd_lambda=0.25), model, sample)
    cross_entropy, ce_gradient, *_ = run(build(FAIRSEQ), model, sample)
    torch.testing.assert_close(loss, 0.25 * cross_entropy)
    torch.testing.assert_close(gradient, 0.25 * ce_gradient)
    assert abs(log["kd_loss"]) < 1e-5


def assert_same_run(one, other):
    """Loss, gradient, sample size and everything logged, beyond rounding."""
    torch.testing.assert_close(one[:2], other[:2])
    assert one[2] == other[2]
    assert {k: float(v) for k, v in one[3].items()} == pytest.approx(
        {k: float(v) for k, v in other[3].items()}, rel=1e-5
    )


@pytest.mark.parametrize("sentence_avg", [False, True])
@pytest.mark.parametrize("prefix", [0, 2])
def test_pad_columns_and_the_order_of_the_batch_change_nothing(
    sentence_avg, prefix, build, model, sentences
):
    criterion = build(
        kd_lambda=0.4, sentence_avg=sentence_avg, ignore_prefix_size=prefix, report_accuracy=True
    )
    expected = run(criterion, model, collate(sentences))
    assert_same_run(run(criterion, model, collate(sentences, pad_columns=3)), expected)
    assert_same_run(run(criterion, model, collate(sentences[::-1])), expected)


@pytest.mark.parametrize("sentence_avg", [False, True])
def test_two_half_batches_add_up_to_the_whole(sentence_avg, build, model, sentences):
    """As with --update-freq 2, where fairseq sums losses, gradients and sample sizes."""
    criterion = build(kd_lambda=0.4, sentence_avg=sentence_avg, report_accuracy=True)
    whole = run(criterion, model, collate(sentences))
    halves = [run(criterion, model, collate(half)) for half in (sentences[:1], sentences[1:])]
    logs = [half[3] for half in halves]
    summed = {key: sum(log[key] for log in logs) for key in logs[0]}
    assert_same_run((*(sum(part) for part in list(zip(*halves))[:3]), summed), whole)
    assert logged(criterion, *logs) == pytest.approx(logged(criterion, whole[3]), rel=1e-3)


@pytest.mark.parametrize("prefix", [0, 2])
def test_without_reduction_there_is_one_loss_a_position(prefix, build, model, sentences):
    criterion = build(kd_lambda=0.4, ignore_prefix_size=prefix)
    sample = collate(sentences)
    loss, gradient, size, log = run(criterion, model, sample, reduce=False)
    total, expected_gradient, expected_size, expected_log = run(criterion, model, sample)
    assert loss.shape == log["nll_loss"].shape == log["kd_loss"].shape
    assert loss.shape == (4 * (5 - prefix), 1)
    assert (loss[sample["target"][:, prefix:].reshape(-1) == PAD] == 0).all()
    torch.testing.assert_close(loss.sum(), total)
    torch.testing.assert_close(log["kd_loss"].sum(), expected_log["kd_loss"])
    torch.testing.assert_close(gradient, expected_gradient)
    assert size == expected_size


def test_the_teachers_numbers_at_padding_and_in_the_prefix_are_not_read(build, model, sentences):
    sample = collate(sentences)
    criterion = build(kd_lambda=0.4, ignore_prefix_size=1)
    expected = run(criterion, model, sample)
    log_probs = sample["teacher"]["log_probs"]
    log_probs[sample["target"].eq(PAD)] = 1e30
    log_probs[:, 0] = 1e30
    assert_same_run(run(criterion, model, sample), expected)


def test_validation_needs_no_teacher_and_gives_the_full_cross_entropy(build, model, sentences):
    model.eval()
    sample = collate(sentences, teacher=False)
    loss, _, _, log = run(build(kd_lambda=0.3), model, sample)
    assert torch.equal(loss, run(build(FAIRSEQ), model, sample)[0])
    assert "kd_loss" not in log
    assert "kd_loss" not in logged(build(kd_lambda=0.3), log)


def test_lambda_one_trains_without_a_teacher(build, model, sentences):
    sample = collate(sentences, teacher=False)
    loss, *_ = run(build(kd_lambda=1.0), model, sample)
    assert torch.equal(loss, run(build(FAIRSEQ), model, sample)[0])


def test_distillation_without_a_teacher_is_refused(build, model, sentences):
    message = r"--kd-lambda 0\.5 asks for .* has no teacher.*--teacher-path"
    with pytest.raises(ValueError, match=message):
        run(build(), model, collate(sentences, teacher=False))


@pytest.mark.parametrize("kd_lambda", [-0.1, 1.1, math.nan, math.inf])
def test_a_lambda_out_of_range_is_refused(kd_lambda, build):
    with pytest.raises(ValueError, match=f"--kd-lambda {kd_lambda} must lie between 0 and 1"):
        build(kd_lambda=kd_lambda)


@pytest.mark.parametrize("temperature", [0.0, -2.0, math.nan, math.inf])
def test_a_temperature_out_of_range_is_refused(temperature, build):
    with pytest.raises(
        ValueError, match=f"--kd-temperature {temperature} must be above 0 and finite"
    ):
        build(kd_temperature=temperature)


def test_defaults_are_those_of_the_design(build):
    criterion = build()
    assert (criterion.kd_lambda, criterion.kd_temperature) == (0.5, 2.0)


@pytest.mark.parametrize("sentence_avg", [False, True])
def test_losses_are_logged_in_base_two_over_the_sample_size(sentence_avg, build, model, sentences):
    criterion = build(kd_lambda=0.4, sentence_avg=sentence_avg)
    logs = [run(criterion, model, collate(half))[3] for half in (sentences[:1], sentences[1:])]
    size, tokens = (4, 13) if sentence_avg else (13, 13)
    values = logged(criterion, *logs)
    for key, divisor in (("loss", size), ("kd_loss", size), ("nll_loss", tokens)):
        total = sum(log[key].item() for log in logs)
        assert values[key] == pytest.approx(total / divisor / math.log(2), abs=1e-3), key
    assert values["ppl"] == pytest.approx(2 ** values["nll_loss"], rel=1e-2)


def test_logging_outputs_of_workers_can_be_summed_first(build, model, sentences):
    criterion = build(kd_lambda=0.4)
    assert criterion.logging_outputs_can_be_summed()
    logs = [run(criterion, model, collate(half))[3] for half in (sentences[:1], sentences[1:])]
    summed = {key: sum(log[key] for log in logs) for key in logs[0]}
    assert logged(criterion, summed) == pytest.approx(logged(criterion, *logs))


# -- kinds of distillation ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "js"])
@pytest.mark.parametrize("prefix", [0, 2])
def test_the_divergence_is_the_one_of_that_name(name, prefix, build, model, sentences):
    sample = collate(sentences)
    criterion = build(kd_lambda=0.0, kd_divergence=name, ignore_prefix_size=prefix)
    log_probs = model(**sample["net_input"]).log_softmax(-1)[:, prefix:]
    expected = distillation_loss(
        log_probs,
        sample["teacher"]["log_probs"][:, prefix:],
        sample["target"][:, prefix:].ne(PAD),
        2.0,
        DIVERGENCES[name],
    )
    torch.testing.assert_close(run(criterion, model, sample)[0], expected.sum().detach())


def keep_top_k(sample, k):
    log_probs = sample["teacher"]["log_probs"]
    shape = fit_tail_shape(log_probs.flatten(0, 1).clone(), 2)
    names = ("topk_ids", "topk_log_probs", "tail_log_mass", "tail_code", "tail_shape")
    return {**sample, "teacher": dict(zip(names, top_k(log_probs, k, shape)))}


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "js"])
@pytest.mark.parametrize("options", OPTIONS[::3], ids=lambda o: "-".join(map(str, o.values())))
def test_all_symbols_of_a_teacher_are_the_teacher(name, options, build, model, sentences):
    sample = collate(sentences)
    criterion = build(kd_lambda=0.3, kd_divergence=name, **options)
    everything = keep_top_k(sample, sample["teacher"]["log_probs"].size(-1))
    assert_same_run(run(criterion, model, everything), run(criterion, model, sample))


def test_the_top_k_at_padding_and_in_the_prefix_is_not_read(build, model, sentences):
    sample = keep_top_k(collate(sentences), 3)
    criterion = build(kd_lambda=0.4, ignore_prefix_size=1)
    expected = run(criterion, model, sample)
    for name, noise in (
        ("topk_ids", 0),
        ("topk_log_probs", 1e30),
        ("tail_log_mass", 0.0),
        ("tail_code", 5.0),
    ):
        sample["teacher"][name][sample["target"].eq(PAD)] = noise
        sample["teacher"][name][:, 0] = noise
    assert_same_run(run(criterion, model, sample), expected)


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "js"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", [3, None])
def test_models_in_half_precision_have_a_finite_loss_in_float32(
    name, dtype, k, build, model, sentences
):
    """Also with logits near the largest number of float16."""
    model = model.to(dtype)
    with torch.no_grad():
        model.logits.weight[EOS, 4], model.logits.weight[EOS, 5] = 6e4, -6e4
    sample = collate(sentences)
    sample = keep_top_k(sample, k) if k else sample
    loss, gradient, _, log = run(build(kd_lambda=0.3, kd_divergence=name), model, sample)
    assert loss.dtype == log["kd_loss"].dtype == torch.float32
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


# -- schedule of lambda ---------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [(0.9, 0.1), (0.1, 0.7), (0.3, 1.0), (1.0, 0.2)])
def test_lambda_goes_linearly_to_its_end_and_stays(start, end, build, model, sentences):
    scheduled = build(kd_lambda=start, kd_lambda_end=end, kd_lambda_updates=50)
    sample = collate(sentences)
    for update_num, kd_lambda in ((0, start), (25, (start + end) / 2), (50, end), (100, end)):
        found = run(scheduled, model, {**sample, "update_num": update_num})
        expected = run(build(kd_lambda=kd_lambda), model, sample)
        assert found[3].pop("kd_lambda") == 13 * kd_lambda  # 13 tokens
        assert found[3].pop("kd_loss") > 0
        expected[3].pop("kd_loss", None)  # none with a constant lambda of 1
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert_identical(found[3], expected[3])


def test_the_log_of_an_epoch_is_the_mean_over_its_tokens(build, model, sentences):
    """Updates of more tokens count for more, as in fairseq's loss."""
    criterion = build(kd_lambda=0.4)
    logs = [
        {**run(criterion, model, collate(part))[3], "a2d_cross": torch.tensor(a2d)}
        for part, a2d in ((sentences[:1], 3.0), (sentences[1:], 100.0))
    ]
    sizes = [log["sample_size"] for log in logs]
    assert sizes[0] != sizes[1]
    with metrics.aggregate(new_root=True) as aggregator:
        for log in logs:
            type(criterion).reduce_metrics([log])
    epoch = aggregator.get_smoothed_values()
    for name in ("loss", "kd_loss", "a2d_cross"):
        expected = sum(float(log[name]) for log in logs) / sum(sizes) / math.log(2)
        assert epoch[name] == pytest.approx(expected, abs=1e-3), name


@pytest.mark.parametrize("sentence_avg", [False, True])
def test_the_log_shows_the_last_lambda_of_any_number_of_workers(
    sentence_avg, build, model, sentences
):
    criterion = build(
        kd_lambda=0.0, kd_lambda_end=1.0, kd_lambda_updates=8, sentence_avg=sentence_avg
    )
    with metrics.aggregate(new_root=True) as aggregator:
        for update_num in (2, 4, 8):
            logs = [
                run(criterion, model, {**collate(half), "update_num": update_num})[3]
                for half in (sentences[:1], sentences[1:])
            ]
            type(criterion).reduce_metrics(logs)
            assert aggregator.get_smoothed_values()["kd_lambda"] == update_num / 8


def test_without_a_schedule_lambda_is_not_logged(build, model, sentences):
    assert "kd_lambda" not in run(build(kd_lambda=0.4), model, collate(sentences))[3]


def test_validation_knows_no_schedule(build, model, sentences):
    model.eval()
    scheduled = build(kd_lambda=0.3, kd_lambda_end=0.0, kd_lambda_updates=5)
    loss, _, _, log = run(scheduled, model, collate(sentences, teacher=False))
    assert torch.equal(loss, run(build(FAIRSEQ), model, collate(sentences))[0])
    assert "kd_lambda" not in log


def test_a_schedule_that_leads_to_distillation_needs_a_teacher(build, model, sentences):
    scheduled = build(kd_lambda=1.0, kd_lambda_end=0.2, kd_lambda_updates=5)
    with pytest.raises(ValueError, match=r"--kd-lambda-end 0\.2 asks for .* has no teacher"):
        run(scheduled, model, collate(sentences, teacher=False))


def test_a_schedule_needs_the_number_of_the_update(build, model, sentences):
    scheduled = build(kd_lambda_end=0.9, kd_lambda_updates=5)
    with pytest.raises(ValueError, match=r"--kd-lambda-end 0\.9 needs the number of the update"):
        run(scheduled, model, collate(sentences))


def test_a_schedule_out_of_range_is_refused_with_everything_else(build):
    message = (
        r"--kd-lambda 2.* between 0 and 1\n--kd-lambda-end -0\.1 must lie between 0 and 1\n"
        r"--kd-lambda-updates 0 must be at least 1\n--kd-temperature 0.* above 0"
    )
    with pytest.raises(ValueError, match=message):
        build(kd_lambda=2.0, kd_lambda_end=-0.1, kd_lambda_updates=0, kd_temperature=0.0)
    with pytest.raises(ValueError, match=r"--kd-lambda-end 1\.0 is --kd-lambda itself"):
        build(kd_lambda=1.0, kd_lambda_end=1.0, kd_lambda_updates=5)


@pytest.mark.parametrize("half", [{"kd_lambda_end": 0.9}, {"kd_lambda_updates": 5}])
def test_half_a_schedule_is_refused(half, build):
    with pytest.raises(ValueError, match="have an effect only together"):
        build(**half)
