"""What the experiment tells while it runs: durations, progress, the log of a training."""

import io

import pytest


def test_what_is_left_is_told_by_what_is_done(script):
    progress = script("experiment_progress")
    work, left = progress.Work, progress.seconds_left
    text = work("1k_text", sentences=1000, done=1.0, seconds=100)
    assert left([text], jobs=1) == 0
    assert left([text, work("1k_text", 1000, 0.0, 0)], 1) == pytest.approx(100)
    assert left([text, work("1k_text", 1000, 0.0, 0)], 2) == pytest.approx(50)
    half = work("1k_kd", 1000, 0.5, 150)  # three times as slow
    assert left([text, half], 1) == pytest.approx(150)
    other = work("5k_text", 5000, 0.0, 0)  # as fast as the mean of the others
    assert left([text, half, other], 1) == pytest.approx(150 + 5000 * 0.2)
    assert left([other], 1) is None


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "?"), (7.4, "0:07"), (307, "5:07"), (3907, "1:05:07")]
)
def test_durations(seconds, shown, script):
    assert script("experiment_progress").duration(seconds) == shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("out", "erased"), [(Terminal(), 1), (io.StringIO(), 0)])
def test_lines_stand_still_on_a_terminal_only(out, erased, script, tmp_path, monkeypatch):
    module = script("experiment_progress")
    runner = script("step_runner").StepRunner(tmp_path, [], {}, 1, {})
    nothing = script("experiment_grid").Grid([], [], {}, None, 1, {}, 200, 60, {"text": ""})
    progress = module.Progress(nothing, runner, {}, 1, out)
    monkeypatch.setattr(module.time, "monotonic", iter([100, 100.5, 161]).__next__)
    for _ in range(3):
        progress.look()
    line = "all: 0 of 0 trainings, 0 of 0 steps; ? of training left\n"
    assert out.getvalue() == line + "\x1b[1F\x1b[J" * erased + line


def test_a_log_over_two_calls(script, tmp_path):
    read = script("training_log").read_training_log
    assert read(tmp_path / "none").epochs == 0
    path = tmp_path / "log"
    path.write_text(
        "=== 1\n2026 | INFO | num. shared model params: 1,234,567 (num. trained: 1,234,567)\n"
        '| {"epoch": 1, "train_loss": "9", "train_num_updates": "10"}\n'
        '| {"epoch": 1, "valid_loss": "9", "valid_bleu": "2.5", "valid_num_updates": "10"}\n'
        '| {"epoch": 1, "valid1_loss": "9", "valid1_bleu": "7", "valid1_num_updates": "10"}\n'
        '| {"epoch": 2, "update": 1.5, "loss": "8"}\n=== 2\n'
        '| {"epoch": 1, "valid_loss": "9", "valid_bleu": "3.5", "valid_num_updates": "10"}\n'
        '| {"epoch": 2, "update": 1.4, "loss": "8"}\n| {"epoch": 2, "upd'
    )
    log = read(path)
    assert (log.epochs, log.updates, log.parameters) == (1.4, 10, 1234567)
    assert (log.validation_bleu, log.best_epoch, log.best_bleu) == ({1: 3.5}, 1, 3.5)
    assert read(path, "valid1").validation_bleu == {1: 7.0}
