"""The schedule of lambda in the real training."""

import pytest
from weights import assert_same_weights

KD = ("--criterion", "kd_label_smoothed_cross_entropy")


def schedule(start, end, updates):
    return (
        *("--kd-lambda", start, "--kd-lambda-end", end, "--kd-lambda-updates", updates),
        *("--log-interval", "1"),
    )


def test_a_resumed_training_goes_on_where_the_schedule_was(train, store, teacher, tmp_path):
    """Stopped in the middle of an epoch and of the schedule; each epoch has 8 updates."""
    options = ("--image-h5", store, *KD, "--teacher-path", teacher.best, "--max-epoch", "3")
    options += schedule(0.2, 0.8, 20)
    whole = train(tmp_path / "whole", *options)
    train(tmp_path / "parts", *options, "--max-update", "11")
    resumed = train(tmp_path / "parts", *options)
    assert "Loaded checkpoint" in resumed.run.log
    assert_same_weights(resumed.last, whole.last)
    lambdas = [0.2 + 0.6 * min(update / 20, 1) for update in range(24)]
    assert whole.run.logged("kd_lambda") == pytest.approx(lambdas, abs=1e-4)
    assert resumed.run.logged("kd_lambda") == pytest.approx(lambdas[11:], abs=1e-4)


def test_distillation_may_fade_out_but_not_be_absent_throughout(train, store, teacher, tmp_path):
    options = ("--image-h5", store, *KD, "--teacher-path", teacher.best)
    faded = train(tmp_path / "faded", *options, *schedule(0.5, 1, 4))
    assert faded.run.logged("kd_lambda")[3:5] == [0.875, 1]
    assert all(value > 0 for value in faded.run.logged("kd_loss"))
    with pytest.raises(ValueError, match="--teacher-path has no effect with --kd-lambda 1"):
        train(tmp_path / "absent", *options, *schedule(1, 1, 4))


def test_a_schedule_that_leads_to_distillation_needs_a_teacher(train, store, tmp_path):
    message = r"--kd-lambda-end 0\.4 gives distillation a weight of 0\.6, but there is no teacher"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, "--image-h5", store, *KD, *schedule(1, 0.4, 4))
