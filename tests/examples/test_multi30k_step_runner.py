"""The experiment's steps: done again, gone on with, not gone on with on another machine."""

import json
import zipfile

import pytest


def test_a_step_that_is_done_again_takes_those_after_it_along(script, tmp_path):
    """Else translations of a model that is gone would pass for those of the next one."""
    step = script("step_commands").Step
    steps = [
        step("train", 'date +%s%N > "$WORK/model"', ["model"]),
        step("translate", 'cp -n "$WORK/model" "$WORK/text"', ["text"], ["train"]),
    ]

    def run():
        runner = script("step_runner").StepRunner(tmp_path, steps, {"WORK": str(tmp_path)}, 1, {})
        done = []
        runner.run(lambda: None, done.append)
        return done

    assert run() == ["train", "translate"]
    assert not run()
    (tmp_path / "model").unlink()
    assert run() == ["train", "translate"]
    assert (tmp_path / "text").read_text() == (tmp_path / "model").read_text()


NOW = {"versions": {"torch": "2.2", "sacrebleu": "2"}, "device": "CPU (x86_64), 1 threads"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"device": "CPU (x86_64), 8 threads"}, None),  # --jobs settles them
        ({"versions": {"torch": "2.2", "sacrebleu": "1"}}, None),
        ({"device": "Tesla"}, "the device Tesla became CPU (x86_64)"),
        ({"versions": {"torch": "2.1"}}, "torch 2.1 became torch 2.2"),
        (None, None),  # a record of an earlier version
    ],
)
def test_a_training_is_not_gone_on_with_on_another_machine(change, problem, script, tmp_path):
    step = script("step_commands").Step
    training = step(
        "train",
        'mkdir -p "$WORK/model"\n[ -e "$WORK/model/last" ] || { touch "$WORK/model/last"; exit 1; }',
        ["model"],
        goes_on=True,
    )
    other = step("text", 'touch "$WORK/text"\nfalse', ["text"])

    def runner(machine):
        variables = {"WORK": str(tmp_path)}
        steps = [training, other]
        return script("step_runner").StepRunner(tmp_path, steps, variables, 1, machine)

    before = {**NOW, **(change or {})}
    first = runner(before)
    first.run(lambda: None, [].append)
    assert first.failed == ["train", "text"]
    path = tmp_path / "steps" / "train.json"
    record = json.loads(path.read_text())
    assert record.pop("machine") == before
    if change is None:
        path.write_text(json.dumps(record))
    now = runner(NOW)
    assert now.changed() == ({"train": problem} if problem else {})
    if problem:
        now.forget("train")
        now.run(lambda: None, [].append)
        assert now.begun_on("train") == NOW
    else:
        now.run(lambda: None, [].append)
        assert now.is_finished("train")
        assert now.begun_on("train") == (NOW if change is None else before)
        assert ("machine" in json.loads(path.read_text())) == (change is not None)
        assert runner({**NOW, "device": "Tesla"}).changed() == {}  # it is finished


def test_a_training_that_has_left_nothing_begins_on_any_machine(script, tmp_path):
    step = script("step_commands").Step("train", "false", ["model"], goes_on=True)
    for torch in ("1", "2"):
        machine = {**NOW, "versions": {"torch": torch}}
        runner = script("step_runner").StepRunner(tmp_path, [step], {}, 1, machine)
        assert runner.changed() == {}
        runner.run(lambda: None, [].append)
        assert runner.begun_on("train") == machine


def test_half_a_training_is_not_gone_on_with_when_its_teacher_is_made_anew(script, tmp_path):
    step = script("step_commands").Step
    half = 'mkdir -p "$WORK/half"\necho . >> "$WORK/half/epochs"\n[ -e "$WORK/whole" ]'
    steps = [
        step("teacher", 'touch "$WORK/teacher"', ["teacher"]),
        step("half", half, ["half"], needs=["teacher"], goes_on=True),
    ]
    variables = {"WORK": str(tmp_path)}

    def epochs():
        runner = script("step_runner").StepRunner(tmp_path, steps, variables, 1, NOW)
        runner.run(lambda: None, [].append)
        return (tmp_path / "half" / "epochs").read_text().count(".")

    assert epochs() == 1
    assert epochs() == 2
    (tmp_path / "teacher").unlink()
    (tmp_path / "whole").touch()
    assert epochs() == 1


def test_half_a_checkpoint_is_replaced_by_a_whole_one(script, tmp_path):
    best, last = tmp_path / "checkpoint_best.pt", tmp_path / "checkpoint_last.pt"
    with zipfile.ZipFile(best, "w") as file:
        file.writestr("data", "weights" * 100)
    last.write_bytes(best.read_bytes()[:50])
    mend = script("step_runner").mend_checkpoints
    mend(tmp_path)
    assert last.read_bytes() == best.read_bytes()
    best.write_bytes(b"half")
    last.write_bytes(b"half")
    mend(tmp_path)
    assert list(tmp_path.iterdir()) == []
