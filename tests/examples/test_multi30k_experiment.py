"""The experiment's program on a tiny Multi30k: killed, gone on with, refused."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

KILLED = "1k_text_seed1.train"
LSTM = "--arch lstm\n--criterion label_smoothed_cross_entropy\n--max-epoch 1\n--batch-size 8\n--eval-bleu\n"


@pytest.fixture(scope="module")
def finished(tiny_experiment, tmp_path_factory):
    """The experiment, killed in the middle of a training and started again: -> (it, stdout)."""
    options = ("--sizes", "1k", "5k", "--arms", "text", "caf-dkd")
    experiment = tiny_experiment(tmp_path_factory.mktemp("experiment"), *options)
    process = experiment.start()
    last = experiment.work / "models" / "1k_text_seed1" / "training" / "checkpoint_last.pt"
    while not last.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not experiment.record(KILLED)["finished"]
    code, out, errors = experiment.run()
    assert code == 0, errors
    return experiment, out


# -- the program ----------------------------------------------------------------------------------


def test_a_killed_training_goes_on(finished):
    experiment, _ = finished
    assert experiment.record(KILLED)["finished"]
    log = experiment.log(KILLED)
    assert log.count("=== ") == 2
    assert "Loaded checkpoint" in log
    assert experiment.log("data.full").count("=== ") == 1


def test_every_student_and_the_teacher_have_their_json(finished, multi30k):
    experiment, out = finished
    arms = ("text", "kd", "caf-dkd")  # caf-dkd goes on from kd
    names = {f"{size}_{arm}_seed1" for size in experiment.subsets for arm in arms}
    found = {path.stem for path in experiment.results.glob("*.json")}
    assert found == names | {"teacher_seed1", "comparisons"}
    assert f"{multi30k} has no test_heldout" in out
    for name in names | {"teacher_seed1"}:
        text = (experiment.results / f"{name}.json").read_text()
        assert str(multi30k.parent.parent) not in text  # a path of this machine
        result = json.loads(text)
        scores = result["scores"]
        assert list(scores) == ["test_2016_flickr"]
        assert "tok:13a" in scores["test_2016_flickr"]["bleu"]["signature"]
        assert scores["test_2016_flickr"]["lines"] == experiment.lines["test_2016_flickr"]
        size = result["size"]
        assert result["pairs"] == experiment.subsets.get(size, experiment.lines["train"])
        epochs = experiment.epochs.get(f"{size}-undistilled", 2) if result["arm"] == "text" else 2
        assert [epoch for epoch, _ in result["validation_bleu"]] == [*range(1, epochs + 1)]
        assert result["epochs"] == epochs
        assert result["updates"] == epochs * -(-result["pairs"] // 8)
        assert result["parameters"] > 10_000
        assert {"torch", "sacrebleu", "sacremoses"} <= set(result["versions"])
        assert result["validated_on"] == "valid"  # there is no val_images
        assert result["arm"] == "teacher" or result["asked"].endswith("--configs $CONFIGS")


def test_arms_differ_by_what_defines_them(finished):
    experiment, _ = finished
    text, both = experiment.result("1k_text_seed1"), experiment.result("1k_caf-dkd_seed1")
    assert text["teacher"] is text["features"] is None
    assert both["features"]["shape"] == [4, 8]
    assert both["features"]["backbone"] == "made-up"
    taught = both["teacher"]["models"]["teacher_seed1"]
    teacher = experiment.result("teacher_seed1")
    assert (
        taught["bleu"]["test_2016_flickr"] == teacher["scores"]["test_2016_flickr"]["bleu"]["value"]
    )
    first, train = [c for c in both["commands"] if "--teacher-cache" in c]
    assert "--image-h5" not in first
    assert '--image-h5 "$IMAGE_H5"' in train
    assert "--image-dropout 0.1" in train
    assert not [c for c in text["commands"] if "--image-h5" in c or "--teacher" in c]


def test_a_student_with_images_goes_on_from_the_one_without(finished):
    experiment, _ = finished
    both = experiment.result("1k_caf-dkd_seed1")
    assert both["origin"] == "1k_kd_seed1"
    assert experiment.result("1k_kd_seed1")["origin"] is None
    assert "--valid-subset valid\n" in both["commands"][-2].replace(" \\\n", "\n")  # no val_images
    start = "models/1k_kd_seed1/training/checkpoint_best.pt"
    assert f'--init-from "$WORK/{start}"' in both["commands"][-2]
    assert f"{start}: " in experiment.log("1k_caf-dkd_seed1.train")
    assert "taken: decoder.output_projection.weight" in experiment.log("1k_caf-dkd_seed1.train")


def test_the_last_epochs_of_the_teacher_are_averaged(finished):
    experiment, _ = finished
    (cache,) = [
        c for c in experiment.result("5k_caf-dkd_seed1")["commands"] if "cache_teacher" in c
    ]
    assert "models/teacher_seed1/average.pt" in cache
    assert "the mean of 2" in experiment.log("teacher_seed1.average")


def test_arms_are_compared(finished):
    experiment, _ = finished
    entries = json.loads((experiment.results / "comparisons.json").read_text())
    pairs = [("kd", "caf-dkd"), ("text", "caf-dkd"), ("text", "kd")]
    assert [(entry["size"], entry["baseline"], entry["system"]) for entry in entries] == [
        (size, *pair) for size in ("1k", "5k") for pair in pairs
    ]
    for entry in entries:
        before, after = (
            experiment.result(f"{entry['size']}_{arm}_seed1")["scores"]["test_2016_flickr"]
            for arm in (entry["baseline"], entry["system"])
        )
        difference = after["chrf"]["value"] - before["chrf"]["value"]
        assert entry["chrf"]["difference"] == pytest.approx(difference, abs=0.011)
        assert 0 < entry["bleu"]["p"] <= 1


def test_a_comparison_with_other_translations_does_not_stay(finished, tmp_path):
    """The student was trained anew without its baseline in the grid: p of the old one is wrong."""
    experiment, _ = finished
    kept = {path: path.read_bytes() for path in experiment.results.iterdir()}
    comparisons = experiment.results / "comparisons.json"
    before = json.loads(comparisons.read_text())
    number = [entry["baseline"] for entry in before].index("text")
    changed = before.pop(number)
    stale = [*before, {**changed, "hypotheses_sha256": ["0", "1"]}]
    comparisons.write_text(json.dumps(stale))
    code, _, errors = experiment.run("--arms", "caf-dkd")
    assert code == 0, errors
    assert json.loads(comparisons.read_text()) == before
    for path, content in kept.items():
        path.write_bytes(content)


def test_the_second_call_does_nothing(finished):
    experiment, _ = finished
    before = experiment.files()
    code, out, errors = experiment.run()
    assert code == 0, errors
    assert "7 of 7 trainings, 20 of 20 steps" in out
    assert experiment.files() == before


def test_other_settings_are_refused_and_the_rest_stays(finished):
    experiment, _ = finished
    path = experiment.configs / "5k-undistilled.options"
    before, files = path.read_text(), experiment.files()
    path.write_text(before.replace("--lr 0.01", "--lr 0.02"))
    try:
        code, _, errors = experiment.run()
    finally:
        path.write_text(before)
    assert code == 1
    assert "error: 5k_text_seed1.train was begun from something else" in errors
    assert "--lr 0.01 became --lr 0.02" in errors
    assert "1 steps follow" in errors
    assert "--redo" in errors
    assert experiment.files() == files


def test_other_text_is_refused(finished, multi30k, tmp_path):
    experiment, _ = finished
    other = shutil.copytree(multi30k, tmp_path / "other")
    path = other / "text" / "val.de"
    path.write_text(path.read_text().replace(".", "!", 1))
    code, _, errors = experiment.run("--root", other)
    assert code == 1
    assert "data.full was begun from something else: other text" in errors


def test_results_of_other_settings_are_refused_or_replaced(finished, tmp_path):
    """Those of other models stay: the folder has teacher, kd and caf-dkd besides."""
    experiment, _ = finished
    results = Path(shutil.copytree(experiment.results, tmp_path / "results"))
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    other = ("--work", tmp_path / "work", "--results", results, "--arms", "text", "--bf16")
    code, _, errors = experiment.run(*other)
    assert code == 1
    names = "1k_text_seed1.json, 5k_text_seed1.json"
    assert (
        f"error: {results} has results of other settings, {names}: nothing became --bf16\n"
        in errors
    )
    assert "another folder as --results, or --redo" in errors
    assert not (tmp_path / "work" / "logs").exists()
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before

    code, _, errors = experiment.run(*other, "--sizes", "5k", "--redo")
    assert code == 0, errors
    name = "5k_text_seed1.json"
    assert "--bf16" in json.loads((results / name).read_text())["asked"]
    after = {path.name: path.read_bytes() for path in results.iterdir()}
    changed = {name for name, content in after.items() if content != before[name]}
    assert changed - {"comparisons.json"} == {name}
    for entry in json.loads(after["comparisons.json"]):  # none is of the translations before
        size, seed, test_set = entry["size"], entry["seed"], entry["test_set"]
        assert entry["hypotheses_sha256"] == [
            json.loads(after[f"{size}_{entry[side]}_seed{seed}.json"])["scores"][test_set][
                "hypotheses_sha256"
            ]
            for side in ("baseline", "system")
        ]


def test_bleu_of_another_teacher_is_none_of_the_students(finished, script, tmp_path):
    experiment, _ = finished
    args = script("experiment").parse_args(experiment.words)
    inputs = script("experiment_inputs").read_inputs(args)
    machine = script("run_results").present_machine(None)
    runner = script("step_runner").StepRunner(args.work, inputs.grid.steps(), {}, 1, machine)
    results = script("run_results").Results(tmp_path, inputs, runner)
    [student] = [m for m in inputs.grid.models if m.name == "1k_kd_seed1"]
    teacher = experiment.result("teacher_seed1")
    for change, known in (({}, ["test_2016_flickr"]), ({"settings_sha256": "0"}, [])):
        (tmp_path / "teacher_seed1.json").write_text(json.dumps({**teacher, **change}))
        assert [*results.write(student)["teacher"]["models"]["teacher_seed1"]["bleu"]] == known


def test_the_json_says_what_the_training_was_begun_with(finished):
    experiment, _ = finished
    path, name = experiment.results / "5k_kd_seed1.json", "5k_kd_seed1.train"
    before, record = path.read_bytes(), experiment.record(name)
    result = json.loads(before)
    assert record["machine"] == {key: result[key] for key in ("versions", "device")}
    versions = {**result["versions"], "torch": "0.1", "sacrebleu": "0.1"}
    written = experiment.work / "steps" / f"{name}.json"
    machine = {"versions": versions, "device": "abacus"}
    for then, torch, device in (
        ({"machine": machine}, "0.1", "abacus"),
        ({}, result["versions"]["torch"], result["device"]),  # a record of an earlier version
    ):
        written.write_text(json.dumps({k: v for k, v in record.items() if k != "machine"} | then))
        path.unlink()
        assert experiment.run()[0] == 0  # the training is finished: it is not gone on with
        found = json.loads(path.read_text())
        assert (found["versions"]["torch"], found["device"]) == (torch, device)
        assert found["versions"]["sacrebleu"] == result["versions"]["sacrebleu"]  # scored now
    written.write_text(json.dumps(record))
    path.write_bytes(before)


def test_a_json_that_is_gone_comes_back(finished):
    experiment, _ = finished
    path = experiment.results / "1k_text_seed1.json"
    before = path.read_bytes()
    path.unlink()
    taught = experiment.results / "1k_kd_seed1.json"
    whole = taught.read_bytes()
    record = json.loads(whole)
    record["teacher"]["models"]["teacher_seed1"]["bleu"] = {}  # it was scored after its student
    taught.write_text(json.dumps(record))
    assert experiment.run()[0] == 0
    assert path.read_bytes() == before
    assert taught.read_bytes() == whole


def test_dry_run_prints_the_commands(finished, tmp_path):
    experiment, _ = finished
    code, out, errors = experiment.run("--dry-run", "--work", tmp_path / "new")
    assert code == 0, errors
    assert not (tmp_path / "new").exists()
    assert f'export WORK="{tmp_path}/new"' in out
    assert out.count("fairseq-train") == out.count("fairseq-generate") == 7
    assert out.count("\n# ") == 20


def test_bf16_is_for_all_models_but_stock_ones(finished, tmp_path):
    experiment, _ = finished
    for size in experiment.subsets:
        (experiment.configs / f"lstm-{size}.options").write_text(LSTM)
    code, out, errors = experiment.run(
        *("--dry-run", "--work", tmp_path / "new", "--bf16", "--arms", "kd", "lstm")
    )
    assert code == 0, errors
    trainings = [step for step in out.split("\n# ") if "fairseq-train" in step]
    assert len(trainings) == 5
    for training in trainings:
        assert ("--bf16" in training) != ("--arch lstm" in training)


def test_table_and_plots(finished, script):
    experiment, _ = finished
    main = script("tabulate_results").main
    made = [experiment.results / name for name in ("table.md", "bleu_over_size.svg")]
    made.append(experiment.results / "learning_curves.svg")
    assert main(["--results", str(experiment.results)]) == 0
    first = [path.read_bytes() for path in made]
    assert main(["--results", str(experiment.results)]) == 0
    assert [path.read_bytes() for path in made] == first
    assert all(len(content) < 100_000 for content in first)
    rows = [line for line in first[0].decode().splitlines() if line.startswith("| ")]
    students = ["text only", "+ distillation", "both (CAF-DKD)"]
    assert [row.split(" | ")[2] for row in rows[2:]] == ["teacher", *students, *students]
    assert all(0 < float(row.split(" | ")[6]) <= 1 for row in rows[2:] if "CAF-DKD" in row)
    with mock.patch.dict(sys.modules, {"results_plots": None, "matplotlib": None}):
        made[0].unlink()
        assert main(["--results", str(experiment.results)]) == 1
        assert made[0].read_bytes() == first[0]
    for path in made:
        path.unlink()
