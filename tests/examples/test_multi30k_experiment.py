"""The experiment's program on a tiny Multi30k: killed, gone on with, refused; and its parts."""

import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]
MULTI30K = ROOT / "examples" / "multi30k"
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


# -- what is checked before -----------------------------------------------------------------------


def test_all_problems_are_reported_at_once(problems, tmp_path):
    def change(configs):
        (configs / "5k.options").unlink()
        path = configs / "1k.options"
        path.write_text(path.read_text() + "--seed 3\n--no-such-flag 1\n")

    found = "\n".join(
        problems("--image-h5", tmp_path / "no.h5", "--root", tmp_path / "none", change=change)
    )
    for message in ("5k.options cannot be read", "no.h5", "none is no Multi30k"):
        assert message in found
    found = "\n".join(problems("--sizes", "1k"))
    assert "the options of 1k kd have --seed, which the experiment sets by itself" in found
    assert "unrecognized arguments: --no-such-flag" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "10k"], "--subset 10000: train has 64 lines"),
        (["--teachers", "teacher", "teacher:1"], "names one twice"),
        (["--teachers", "giant"], "giant.options cannot be read"),
    ],
)
def test_what_is_not_there_is_named(options, message, problems):
    def change(configs):
        for name in ("10k", "10k-undistilled"):
            shutil.copy(configs / "5k.options", configs / f"{name}.options")

    assert message in "\n".join(problems(*options, change=change))


def test_fairseqs_lstm_has_options_for_each_size(problems):
    """Those of all pairs would leave a student of 1,000 hardly trained."""

    def change(configs):
        (configs / "lstm-5k.options").write_text(LSTM)

    assert problems("--sizes", "5k", "--arms", "lstm", change=change) == []
    [problem] = problems("--arms", "lstm", change=change)
    assert (
        "lstm-1k.options cannot be read: there is no such file; nearest to it are lstm-5k"
        in problem
    )


def test_without_images_no_store_is_needed(problems):
    def change(configs):
        path = configs / "teacher.options"
        path.write_text(path.read_text().replace("--image-missing mask\n", ""))

    assert "--image-h5 is missing" in problems("--image-h5", "", "--arms", "text", "image")[0]
    assert problems("--image-h5", "", "--arms", "text", "kd", change=change) == []


def test_a_training_set_without_images_is_refused(problems, write_store, tmp_path):
    other = write_store(tmp_path / "other.h5", ["a.png", "b.png"])
    found = problems("--image-h5", other)
    assert any("none of the 24 lines of the training set 1k has an image" in line for line in found)


def test_missing_images_are_refused_unless_masked(problems, write_store, multi30k, tmp_path):
    ids = (multi30k / "text" / "train.images").read_text().split()
    some = write_store(tmp_path / "some.h5", ids[:30])

    def change(configs):
        (configs / "image.options").write_text("--image-dropout 0.1\n")

    found = "\n".join(problems("--image-h5", some, change=change))
    assert "10 of the 40 images of the training set 5k are not in" in found
    assert "20 of the 20 images of val are not in" in found


# -- the grid -------------------------------------------------------------------------------------


def test_a_teacher_of_the_rest_has_seen_no_line_of_the_biggest_student(grid, multi30k, tmp_path):
    steps = grid("--sizes", "1k", "5k", "--seeds", "1", "--teacher-subset", "rest")
    command = steps["lines.without-5k"].command
    variables = {"MULTI30K_ROOT": str(multi30k), "WORK": str(tmp_path)}
    subprocess.run(["sh", "-e", "-c", command], env={**os.environ, **variables}, check=True)
    assert (tmp_path / "without-5k.lines").read_text().split() == [*map(str, range(40, 64))]
    assert "data/without-5k" in steps["teacher_without-5k_seed1.train"].command
    assert "teacher_without-5k_seed1" in steps["cache.1k"].command


def test_lines_that_the_teacher_would_see_are_refused(problems, multi30k, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(multi30k, root)
    options = ("--root", root, "--teacher-subset", "rest")
    assert problems(*options) == []
    path = root / "subsets" / "train_5k.lines"
    path.write_text(path.read_text().replace("\n7\n", "\n 7\n"))
    assert [f"{path} has ' 7': write plain numbers" in line for line in problems(*options)] == [
        True
    ]
    path.write_text("".join(f"{number}\n" for number in range(20, 60)))
    [problem] = problems(*options)
    assert "20 of the 24 lines of 1k are not in 5k" in problem


def test_several_teachers_are_averaged_by_the_cache(grid):
    steps = grid("--sizes", "1k", "--teachers", "teacher:1", "teacher:2")
    paths = ":".join(f"$WORK/models/teacher_seed{seed}/average.pt" for seed in (1, 2))
    assert f'--teacher-path "{paths}"' in steps["cache.1k"].command
    assert set(steps["cache.1k"].needs) == {
        "data.1k",
        "teacher_seed1.average",
        "teacher_seed2.average",
    }


@pytest.mark.parametrize(
    ("suffixes", "valid"),
    [
        ((), "valid"),
        (("en",), "valid"),
        (("en", "de"), "valid1"),
        (("en.gz", "de.gz"), "valid1"),
    ],
)
def test_val_images_chooses_where_both_sides_are_there(suffixes, valid, grid, multi30k, tmp_path):
    root = Path(shutil.copytree(multi30k, tmp_path / "root"))
    for suffix in suffixes:
        lang, _, packed = suffix.partition(".")
        text = (root / "text" / f"val.{lang}").read_bytes()
        made = root / "text" / f"val_images.{suffix}"
        made.write_bytes(gzip.compress(text) if packed else text)
    command = grid("--root", root, "--sizes", "1k")["1k_image_seed1.train"].command
    assert re.findall(r"--valid-subset (\w+)", command)[-1] == valid


def test_steps_come_after_those_that_they_need(grid):
    seen = set()
    for step in grid("--sizes", "1k", "5k", "--teacher-subset", "without-1k").values():
        assert set(step.needs) <= seen
        seen.add(step.name)


def test_the_defaults_are_the_experiments(script):
    args = script("experiment").parse_args(["--root", "r"])
    assert args.sizes == ["1k", "5k", "10k", "full"]
    students, _ = script("experiment_inputs")._students(args, [])
    runs = [(one.size, one.arm, one.seed) for one in students]
    assert len(runs) == len(set(runs)) == 4 * 3 + 4 * 3 + 4 + 2
    assert {arm for size, arm, _ in runs if size == "full"} == {"text", "image"}
    assert {seed for size, _, seed in runs if size == "5k"} == {1, 2, 3}


def test_a_smoke_run_is_small(script, multi30k, tmp_path):
    script("smoke_root").write_smoke_root(multi30k, tmp_path / "root", "en", "de")
    lines = (tmp_path / "root" / "text" / "train.en").read_text().splitlines()
    assert lines == (multi30k / "text" / "train.en").read_text().splitlines()[:24]
    args = script("experiment").parse_args(["--root", "r", "--smoke", "--work", str(tmp_path)])
    assert (args.sizes, args.seeds, args.results) == (["1k"], [1], tmp_path / "results")
    apart = {
        script("experiment").parse_args(["--root", "r", *words]).work for words in ([], ["--smoke"])
    }
    assert len(apart) == 2  # the real one would refuse the other's data
    trial = ["--root", "r", "--configs", "other", "--work", str(tmp_path)]
    assert script("experiment").parse_args(trial).results == tmp_path / "results"
    words = script("experiment_inputs")._students(args, [])[0][0].options
    assert script("option_files").value_of(words, "--max-epoch") == "2"


# -- option files ---------------------------------------------------------------------------------


def test_a_shell_reads_an_option_file_as_the_program_does(script, tmp_path):
    read_options = script("option_files").read_options
    made = tmp_path / "made.options"
    made.write_text("# a comment\n\n--flag\n  --lr 1e-3 # why\n--adam-betas (0.9,0.98)\n")
    assert read_options(made) == ["--flag", "--lr", "1e-3", "--adam-betas", "(0.9,0.98)"]
    for path in [made, *sorted((MULTI30K / "configs").glob("*.options"))]:
        command = f"printf '%s\\n' $(sed 's/#.*//' {path})"
        said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert said.stdout.splitlines() == read_options(path)


def test_a_size_without_an_option_file_is_refused():
    done = subprocess.run(
        ["bash", MULTI30K / "train_student.sh"],
        env={**os.environ, "SIZE": "2k"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: SIZE=2k has no examples/multi30k/configs/2k.options" in done.stderr


def test_all_bad_lines_of_an_option_file_are_named(script, tmp_path):
    path = tmp_path / "bad.options"
    path.write_text("--lr 1e-3\nmax-epoch 3\n--adam-betas (0.9, 0.98)\n--seed=1\n")
    with pytest.raises(ValueError, match="line 2") as error:
        script("option_files").read_options(path)
    assert [line.split(":")[0][-1] for line in str(error.value).splitlines()] == ["2", "3", "4"]


# -- progress -------------------------------------------------------------------------------------


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


def test_what_was_asked_names_the_configs_and_smoke(script):
    def asked(*words):
        args = script("experiment").parse_args(["--root", "r", *map(str, words)])
        return script("experiment_inputs")._asked(args)

    assert asked() == asked("--configs", MULTI30K / "configs") == []
    assert asked("--smoke") == ["--smoke"]
    assert asked("--configs", MULTI30K) == ["--configs", "examples/multi30k"]
    assert asked("--configs", "/elsewhere") == ["--configs", "$CONFIGS"]  # no path of a machine


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


# -- checkpoints that fairseq was killed at copying -----------------------------------------------


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


# -- the table ------------------------------------------------------------------------------------


def result(size, arm, seed, bleu, pairs=1000):
    metrics = {"bleu": bleu, "chrf": 2 * bleu, "tokenised_bleu": bleu + 1}
    scores = {name: {"value": value, "signature": f"s:{name}"} for name, value in metrics.items()}
    return {
        **{"name": f"{size}_{arm}_seed{seed}", "size": size, "arm": arm, "seed": seed},
        **{"pairs": pairs, "parameters": 2_400_000, "minutes": 10.0, "features": None},
        **{"device": "CPU", "vocabulary": 2000, "versions": {"torch": "2"}, "teacher": None},
        **{"scores": {"test_2016_flickr": scores}, "validation_bleu": [[1, bleu]]},
        "asked": f"--sizes {size} --arms {arm}",
        "commands": ["fairseq-train data --seed 1", f"fairseq-train data --seed {seed}"],
    }


def test_a_row_has_mean_and_spread_and_p_of_every_seed(script):
    table = script("results_table")
    results = [result("1k", "kd", 2, 22.0), result("1k", "kd", 1, 20.0)]
    results += [result("5k", "text", 1, 30.0, 5000), result("1k", "text", 1, 10.0)]
    results[2]["commands"][-1] += " --decoder-input-feeding"
    results[0]["commands"][0] += " --decoder-input-feeding"  # its teacher
    comparison = {"size": "1k", "seed": 2, "test_set": "test_2016_flickr", "baseline": "text"}
    entry = {**comparison, "system": "kd", "bleu": {"difference": 12.0, "p": 0.001}}
    lines = table.markdown(results, [entry], "python x.py").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:5]]
    assert [row[:4] for row in cells[2:]] == [
        ["1k", "1,000", "text only", "1"],
        ["1k", "1,000", "+ distillation", "2"],
        ["5k", "5,000", "text only", "1"],
    ]
    assert cells[3][4:7] == ["21.0 ± 1.4", "42.0 ± 2.8", "-, 0.001"]
    assert cells[2][4:7] == ["10.0", "20.0", ""]
    assert cells[3][-1] == "`--sizes 1k --arms kd --seeds 1 2`"
    assert "BLEU: `s:bleu`." in lines
    assert "Input feeding, which no other cross_modal_rnn here has: 5k, text only." in lines


def test_p_of_a_pair_that_was_compared_the_other_way_round(script):
    table = script("results_table")
    results = [result("1k", "text", 1, 10.0), result("1k", "lstm", 1, 9.0)]
    entry = {"size": "1k", "seed": 1, "test_set": "test_2016_flickr", "bleu": {"p": 0.25}}
    pairs = [("lstm", "text"), ("text", "lstm")]
    for baseline, system in pairs:
        comparisons = [{**entry, "baseline": baseline, "system": system}]
        text, lstm = table.rows(results)
        assert table.significance(lstm, "test_2016_flickr", comparisons) == "0.250"
        assert table.significance(text, "test_2016_flickr", comparisons) == ""
    assert pairs[0] in script("run_results").COMPARED


def test_seeds_of_other_machines_are_noted(script):
    def notes(**change):
        results = [result("1k", "text", 1, 10.0), {**result("1k", "text", 2, 11.0), **change}]
        lines = script("results_table").markdown(results, [], "python x.py").splitlines()
        return [line for line in lines if "not trained on the same" in line]

    assert notes() == notes(device="CPU, 8 threads") == []
    assert notes(device="Tesla", versions={"torch": "3"}) == [
        "Seeds that were not trained on the same: from 1k_text_seed1 to 1k_text_seed2 torch 2 became "
        "torch 3, the device CPU became Tesla."
    ]


def test_curves_on_different_validation_sets_share_no_axis(script):
    plots = script("results_plots")
    splits = script("multi30k_release").SPLITS
    assert all(splits[name] == prefix for prefix, name in plots.VALIDATION_SETS.items())
    image, both = result("1k", "image", 1, 20.0), result("5k", "caf-dkd", 1, 40.0)
    image["validated_on"] = "valid1"
    both["commands"][-1] += " --valid-subset valid --valid-subset valid1,valid"  # an older JSON
    results = [result("1k", "text", 1, 10.0), image, both, result("5k", "kd", 1, 30.0)]
    results.append(result("10k", "text", 1, 50.0))
    figure = plots.learning_curves(results)
    found = {}
    for axis in figure.axes:
        if axis.get_visible():
            row = axis.get_subplotspec().rowspan.start
            found[row, axis.get_title()] = [line.get_ydata()[0] for line in axis.lines]
    assert found == {
        **{(0, "1k"): [10.0], (0, "5k"): [30.0], (0, "10k"): [50.0]},
        **{(1, "1k"): [20.0], (1, "5k"): [40.0]},
    }
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == ["BLEU on val, greedy", "BLEU on val_images, greedy"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["text only", "+ image", "+ distillation", "both (CAF-DKD)"]


def test_seeds_that_were_not_trained_alike_are_no_row(script, tmp_path, capsys):
    def write(seed, dropout):
        name = f"1k_text_seed{seed}"
        train = f"fairseq-train \\\n    --dropout {dropout} \\\n    --seed {seed} \\\n    --save-dir {name}"
        run = {**result("1k", "text", seed, 10.0), "commands": ["prepare", train]}
        run["scores"]["test_2016_flickr"]["hypotheses_sha256"] = name
        (tmp_path / f"{name}.json").write_text(json.dumps(run))

    tabulate = script("tabulate_results")
    write(1, 0.3)
    write(2, 0.3)
    assert len(tabulate.read_results(tmp_path)[0]) == 2
    write(2, 0.4)
    assert tabulate.main(["--results", str(tmp_path)]) == 1
    assert "1k_text_seed1 and 1k_text_seed2 are not of one experiment: '--dropout 0.3' became" in (
        capsys.readouterr().err
    )


def test_seeds_that_go_on_from_their_own_student_are_a_row(script, tmp_path):
    def training(arm, seed, *options):
        words = ["fairseq-train", *options, f"--seed {seed}", f"--save-dir 1k_{arm}_seed{seed}"]
        return " \\\n    ".join(words)

    def runs(dropout):
        for seed in (1, 2):
            origin = f"1k_text_seed{seed}"
            first = training("text", seed, f"--dropout {dropout if seed == 2 else 0.3}")
            then = training("image", seed, f"--init-from {origin}")
            made = result("1k", "image", seed, 10.0)
            yield {**made, "commands": [first, then], "origin": origin}

    mixture_problems = script("results_table").mixture_problems
    assert mixture_problems(list(runs(0.3))) == []
    assert len(mixture_problems(list(runs(0.4)))) == 1


def test_arms_that_no_plot_shows_have_a_table(script, tmp_path, capsys):
    one = result("1k", "transformer", 1, 10.0)
    one["scores"]["test_2016_flickr"]["hypotheses_sha256"] = "of its translations"
    (tmp_path / "1k_transformer_seed1.json").write_text(json.dumps(one))
    assert script("tabulate_results").main(["--results", str(tmp_path)]) == 0
    assert "the plots are of text, image, kd" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.[ms][dv]*")] == ["table.md"]


def test_a_result_of_an_unknown_arm_is_named(script, tmp_path, capsys):
    path = tmp_path / "1k_parrot_seed1.json"
    path.write_text(json.dumps(result("1k", "parrot", 1, 10.0)))
    assert script("tabulate_results").main(["--results", str(tmp_path)]) == 1
    assert f"error: {path}: experiment.py has no arm parrot" in capsys.readouterr().err


def test_results_of_teachers_alone_are_no_table(script, tmp_path, capsys):
    main = script("tabulate_results").main
    teacher = {**result("full", "teacher", 1, 30.0), "name": "teacher_seed1"}
    (tmp_path / "teacher_seed1.json").write_text(json.dumps(teacher))
    assert main(["--results", str(tmp_path)]) == 1
    assert "has 1 JSONs of models, and none of a student" in capsys.readouterr().err
