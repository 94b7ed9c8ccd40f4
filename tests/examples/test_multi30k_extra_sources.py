"""Arms with extra source text in the experiment: what is made of it, shared, refused and recorded."""

import json
import re
import shutil
from pathlib import Path
from unittest import mock

import pytest
from fairseq.data import Dictionary, data_utils

KINDS = ("substituted", "untranslated")
ARMS = [f"{arm}-{kind}" for kind in KINDS for arm in ("text", "kd")]
ASKED = ("--sizes", "1k", "--arms", *ARMS, "--copies", "3", "--teachers", "reader")


@pytest.fixture(scope="module")
def finished(tiny_experiment, tmp_path_factory):
    """The four arms at 1k: -> (the experiment, stdout)."""
    experiment = tiny_experiment(tmp_path_factory.mktemp("extra"), *ASKED)
    code, out, errors = experiment.run()
    assert code == 0, errors
    return experiment, out


def binarised(folder, split, lang):
    """The sentences of a split, in pieces put together."""
    dictionary = Dictionary.load(str(folder / f"dict.{lang}.txt"))
    sentences = data_utils.load_indexed_dataset(f"{folder}/{split}.en-de.{lang}", dictionary)
    return [dictionary.string(sentence, "sentencepiece") for sentence in sentences]


def printed(folder, kind):
    """What the teacher made of each sentence."""
    text = (folder / "synthetic" / f"1k-{kind}" / "translations").read_text()
    found = {int(n): said for n, said in re.findall(r"^D-(\d+)\t[^\t]*\t(.*)$", text, re.MULTILINE)}
    return [found[number] for number in sorted(found)]


# -- the program ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_synthetic_pairs_are_the_teachers_words(kind, finished, multi30k):
    experiment, _ = finished
    folder = experiment.work / "synthetic" / f"1k-{kind}"
    sources = (folder / "source.en").read_text().splitlines()
    assert len(printed(experiment.work, kind)) == len(sources)
    said = [
        (source, words.strip())
        for source, words in zip(sources, printed(experiment.work, kind))
        if words.strip()
    ]
    data = experiment.work / "data" / f"1k-{kind}"
    made = list(zip(binarised(data, "train1", "en"), binarised(data, "train1", "de")))
    assert made == said
    references = (multi30k / "text" / "train.de").read_text().splitlines()
    assert made
    assert not {target for _, target in made} & set(references)


def test_untranslated_sources_are_the_lines_that_the_size_has_not(finished, multi30k):
    experiment, _ = finished
    made = experiment.work / "synthetic" / "1k-untranslated" / "source.en"
    lines = (multi30k / "text" / "train.en").read_text().splitlines()
    assert made.read_text().splitlines() == lines[experiment.subsets["1k"] :]


def test_substituted_sources_are_new_and_of_the_whole_texts_words(finished, multi30k):
    experiment, _ = finished
    made = (experiment.work / "synthetic" / "1k-substituted" / "source.en").read_text()
    text = (multi30k / "text" / "train.en").read_text()
    assert made
    assert not set(made.splitlines()) & set(text.splitlines()[: experiment.subsets["1k"]])
    assert set(re.findall(r"\w+", made.lower())) <= set(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("kind", KINDS)
def test_both_arms_have_the_real_and_the_same_synthetic_pairs(kind, finished):
    experiment, _ = finished
    data = experiment.work / "data"
    for lang in ("en", "de"):
        name = f"train.en-de.{lang}.bin"
        assert (data / f"1k-{kind}" / name).read_bytes() == (data / "1k" / name).read_bytes()
    results = [experiment.result(f"1k_{arm}-{kind}_seed1") for arm in ("text", "kd")]
    synthetic = len(binarised(data / f"1k-{kind}", "train1", "de"))
    for result in results:
        assert (result["pairs"], result["synthetic_pairs"]) == (24, synthetic)
        assert result["features"] is None
        assert result["epochs"] == experiment.extra_epochs  # the last of two flags
        pairs = result["pairs"] + synthetic
        assert result["updates"] == experiment.extra_epochs * -(-pairs // 8)
        (train,) = [c for c in result["commands"] if c.startswith("fairseq-train") and kind in c]
        assert f'fairseq-train "$WORK/data/1k-{kind}"' in train
        assert ("--teacher-cache" in train) == (result["arm"] == f"kd-{kind}")
        assert set(result["teacher"]["models"]) == {"reader_seed1"}
    text, taught = (
        {command for command in result["commands"] if result["name"] not in command}
        for result in results
    )
    assert text < taught
    assert [command.split()[1] for command in taught - text] == ["preprocess/cache_teacher.py"]


def test_what_was_asked_gives_the_same_model(finished, script, multi30k, tmp_path):
    experiment, _ = finished
    for arm in ARMS:
        result = experiment.result(f"1k_{arm}_seed1")
        words = [*result["asked"].split(), "--configs", str(experiment.configs), "--seeds", "1"]
        words += ["--root", str(multi30k), "--work", str(tmp_path)]
        args = script("experiment").parse_args(words)
        steps = script("experiment_inputs").read_inputs(args).grid.steps()
        assert set(result["commands"]) <= {step.command for step in steps}


def test_arms_are_compared_with_those_without_extra_sources(finished, script):
    experiment, _ = finished
    entries = json.loads((experiment.results / "comparisons.json").read_text())
    pairs = [(entry["baseline"], entry["system"]) for entry in entries]
    assert pairs == [(f"text-{kind}", f"kd-{kind}") for kind in KINDS]
    compared = script("run_results").COMPARED
    for kind in KINDS:
        for pair in [("text", "text"), ("text", "kd"), ("kd", "kd")]:
            assert (pair[0], f"{pair[1]}-{kind}") in compared


def test_the_second_call_does_nothing_beside_a_json_of_somebody_elses(finished):
    experiment, _ = finished
    notes = experiment.results / "notes.json"
    notes.write_text("[1]")
    before = experiment.files()
    code, out, errors = experiment.run()
    assert code == 0, errors
    assert "5 of 5 trainings, 23 of 23 steps" in out
    assert experiment.files() == before
    notes.unlink()


def test_table_and_plots(finished, script):
    experiment, _ = finished
    main = script("tabulate_results").main
    assert main(["--results", str(experiment.results)]) == 0
    table = (experiment.results / "table.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[3:7]]
    assert [row[3] for row in rows] == [
        "text only + substituted sources",
        "+ distillation + substituted sources",
        "text only + untranslated sources",
        "+ distillation + untranslated sources",
    ]
    assert rows[2][2] == "24 + 40"
    assert "Pairs after a +: the teachers' translations of extra sources." in table
    for name in ("bleu_over_size.svg", "learning_curves.svg"):
        plot = (experiment.results / name).read_text()
        assert all(row[3] in plot for row in rows)


# -- the grid -------------------------------------------------------------------------------------


def test_other_steps_are_the_same_with_and_without_extra_sources(grid):
    options = ("--sizes", "1k", "5k", "--teachers", "reader", "--teacher-subset", "without-1k")
    plain = grid(*options, "--arms", "text", "kd")
    more = grid(*options, "--arms", "text", "kd", *ARMS)
    assert {name: more[name] for name in plain} == plain
    extra = [name for name in more if name not in plain]
    assert {name.partition(".")[0] for name in extra if not name.startswith(("1k_", "5k_"))} == {
        *("lines", "source", "translations", "pairs", "data", "cache")
    }


def test_every_seed_and_arm_shares_what_is_translated(grid):
    options = ("--sizes", "1k", "--arms", *ARMS, "--seeds", "1", "2", "3", "--teachers", "reader")
    steps = grid(*options)
    assert len([name for name in steps if name.startswith("translations.")]) == 2
    assert len([name for name in steps if name.startswith("cache.")]) == 2
    assert len([name for name in steps if name.endswith("_seed3.train")]) == 4
    seen = set()
    for step in steps.values():
        assert set(step.needs) <= seen
        seen.add(step.name)


def test_several_teachers_translate_together(grid):
    options = ("--sizes", "1k", "--arms", "text-substituted", "--teachers", "reader:1", "reader:2")
    steps = grid(*options)
    paths = ":".join(
        f"$WORK/models/reader_seed{seed}/training/checkpoint_best.pt" for seed in (1, 2)
    )
    step = steps["translations.1k-substituted"]
    assert f'--path "{paths}"' in step.command
    assert step.needs == ["source.1k-substituted", "reader_seed1.train", "reader_seed2.train"]
    assert not [name for name in steps if name.startswith("cache.")]


def test_a_teacher_of_the_rest_has_seen_no_line_of_a_student_with_its_words(grid):
    options = ("--sizes", "1k", "5k", "--arms", "text-substituted", "--teachers", "reader")
    assert "reader_without-5k_seed1.train" in grid(*options, "--teacher-subset", "rest")


def test_the_size_with_all_lines_may_have_substituted_sources(grid, problems):
    def change(configs):
        for name in ("full", "full-undistilled"):
            (configs / f"{name}.options").write_bytes((configs / "1k.options").read_bytes())

    asked = ("--sizes", "full", "--teachers", "reader", "--arms", "kd-substituted")
    assert problems(*asked, change=change) == []
    assert grid(*asked)["data.full-substituted"].needs == ["data.full", "pairs.full-substituted"]
    assert problems(*asked, "text-untranslated", change=change) == [
        "--sizes full has all 64 lines, so that none is left for the arms with untranslated sources. "
        "Give other --sizes or --arms."
    ]


def test_lines_that_the_shell_would_not_leave_out_are_refused(problems, multi30k, tmp_path):
    root = Path(shutil.copytree(multi30k, tmp_path / "root"))
    options = ("--root", root, "--sizes", "1k", "5k", "--teachers", "reader", "--arms")
    for size, number in (("1k", " 7"), ("5k", "007")):
        path = root / "subsets" / f"train_{size}.lines"
        path.write_text(path.read_text().replace("\n7\n", f"\n{number}\n"))
    assert problems(*options, "kd", "kd-substituted") == []  # they leave no lines out
    assert [line.partition(": ")[0] for line in problems(*options, "kd-untranslated")] == [
        f"{root}/subsets/train_1k.lines has ' 7'",
        f"{root}/subsets/train_5k.lines has '007'",
    ]


def test_a_teacher_that_looks_at_images_is_refused(problems):
    [problem] = problems("--arms", "text-substituted", "kd", "--sizes", "1k")
    assert "--teachers teacher looks at images (its options have --image-missing)" in problem
    assert "sources of --arms text-substituted have none" in problem


def test_these_arms_are_trained_only_if_they_are_named(script):
    args = script("experiment").parse_args(["--root", "r"])
    arms = {one.arm for one in script("experiment_inputs")._students(args, [])[0]}
    assert arms == {"text", "image", "kd", "caf-dkd"}
    known = script("experiment_grid").ARMS
    assert list(known)[:4] == ["text", "image", "kd", "caf-dkd"]
    assert not [arm for arm in ARMS if known[arm].images]


def test_copies(script):
    parse = script("experiment").parse_args
    default = script("substitute_words").COPIES
    assert parse(["--root", "r"]).copies == default
    assert parse(["--root", "r", "--smoke"]).copies < default
    assert parse(["--root", "r", "--smoke", "--copies", "7"]).copies == 7


# -- progress and results -------------------------------------------------------------------------


def test_synthetic_pairs_count_in_the_time_that_is_left(script, tmp_path):
    model = script("experiment_grid").Model
    students = [
        model("1k", arm, 1, ["--max-epoch", "10"], images=False) for arm in ("text", *ARMS[::2])
    ]
    grid = script("experiment_grid").Grid([], students, {}, None, 500, {}, 200, 60, {})
    runner = script("step_runner").StepRunner(tmp_path, [], {}, 1, {})
    progress = script("experiment_progress").Progress(grid, runner, {"1k": 100}, 1)

    def sentences():
        with mock.patch.object(runner, "is_finished", return_value=False):
            return [progress._work(student).sentences for student in students]

    assert sentences() == [1000, 61_000, 5000]  # at most
    made = tmp_path / "synthetic" / "1k-substituted" / "text" / "train.en"
    made.parent.mkdir(parents=True)
    made.write_text("A dog.\n" * 5500)
    assert sentences() == [1000, 56_000, 5000]


def test_a_json_that_is_no_result_is_named(finished, script, tmp_path, capsys):
    experiment, _ = finished
    for path in experiment.results.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "notes.json").write_text('{"name": "mine"}')
    (tmp_path / "broken.json").write_text("{")
    assert script("tabulate_results").main(["--results", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert f"error: {tmp_path}/notes.json is no result of experiment.py" in errors
    assert f"error: {tmp_path}/broken.json is no JSON" in errors
