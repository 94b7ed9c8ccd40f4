"""The quickstart's scores, wrong pictures and commands."""

import argparse
import importlib
import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture(scope="module")
def script():
    """A function that imports one of the quickstart's scripts."""
    with mock.patch.object(sys, "path", [str(QUICKSTART), *sys.path]):
        yield importlib.import_module


@pytest.fixture(scope="module")
def report(script):
    return script("report")


# -- wrong pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_every_picture_once_and_none_of_the_own_noun(script, seed):
    nouns = ["bat"] * 5 + ["seal"] * 3 + ["bow", "key"]
    places = script("wrong_images").derange(nouns, seed)
    assert sorted(places) == list(range(10))
    assert all(nouns[place] != noun for place, noun in zip(places, nouns))


def test_wrong_pictures_depend_on_the_seed_only(script):
    derange = script("wrong_images").derange
    nouns = ["bat", "seal", "bow", "key"] * 5
    assert derange(nouns, 1) == derange(nouns, 1) != derange(nouns, 2)


def test_a_noun_of_most_sentences_is_refused(script):
    with pytest.raises(ValueError, match="2 of 3 sentences have the same noun"):
        script("wrong_images").derange(["bat", "bat", "bow"], 1)


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("translation", "accuracy"),
    [
        ("Er malt den Nagel.", 1),
        ("Er malt den Fingernagel.", 0),
        ("Er malt den Nagel, den Fingernagel.", 0),
        ("Er malt den Bogen.", 0),
        ("", 0),
    ],
)
def test_sense_accuracy_looks_at_whole_words(report, translation, accuracy):
    sense = report.Sense("nail", "Nagel", "Fingernagel")
    assert report.sense_accuracy([translation], [sense]) == accuracy


def test_translations_come_in_the_order_of_the_test_set(report, tmp_path):
    path = tmp_path / "out.txt"
    path.write_text(
        "S-1\tb\nH-1\t-0.1\tZwei .\nD-1\t-0.1\tx\nH-0\t-0.3\tEins .\n", encoding="utf-8"
    )
    assert report.read_translations(path, 2) == ["Eins .", "Zwei ."]
    with pytest.raises(ValueError, match="translations of 2 sentences, but the test set has 3"):
        report.read_translations(path, 3)


def test_report_has_every_arm_with_its_signature(report, tmp_path):
    text, references = (
        tmp_path / "text",
        ["Er malt den schönen Bogen im Park.", "Sie sieht die Robbe."],
    )
    text.mkdir()
    (text / "test.de").write_text("\n".join(references) + "\n", encoding="utf-8")
    (text / "test.senses").write_text("bow\tBogen\tSchleife\t0\nseal\tRobbe\tSiegel\t0\n")
    outputs = {"image": references, "text_only": references[:1] * 2, "wrong_image": ["", ""]}
    for arm, lines in outputs.items():
        said = "".join(f"H-{number}\t-1\t{line}\n" for number, line in enumerate(lines))
        (tmp_path / f"{arm}.txt").write_text(said, encoding="utf-8")
    folders = [f"--text={text}", f"--translations={tmp_path}", f"--output={tmp_path}"]
    report.main(folders)
    found = json.loads((tmp_path / "report.json").read_text())
    assert list(found) == ["text_only", "image", "wrong_image"]
    assert found["image"]["bleu"] == 100
    assert [figures["sense_accuracy"] for figures in found.values()] == [0.5, 1, 0]
    assert all("tok:13a" in figures["sacrebleu_signature"] for figures in found.values())
    report.main([*folders, "--arms", "wrong_image", "image"])
    assert list(json.loads((tmp_path / "report.json").read_text())) == ["wrong_image", "image"]


# -- the demo's commands --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["features", "pixels"])
def demo(request):
    return request.param


@pytest.fixture(scope="module")
def steps(script, demo):
    run = script("run")
    groups = {
        "features": run.steps("demo", run.SMOKE, 1),
        "pixels": run.pixel_steps("demo", run.PIXEL_SMOKE, 1),
    }[demo]
    return [step for group in groups for step in group]


def test_steps_have_names_and_outputs_of_their_own(steps):
    assert len({step.name for step in steps}) == len(steps)
    outputs = Counter(output for step in steps for output in step.outputs)
    assert set(outputs.values()) == {1}


def test_every_fairseq_command_parses(steps, demo, monkeypatch):
    from fairseq import options

    monkeypatch.chdir(ROOT)  # for --user-dir
    parsers = {
        "fairseq-preprocess": (
            options.get_preprocessing_parser,
            argparse.ArgumentParser.parse_args,
        ),
        "fairseq-train": (options.get_training_parser, options.parse_args_and_arch),
        "fairseq-generate": (options.get_generation_parser, options.parse_args_and_arch),
    }
    parsed = Counter()
    for step in steps:
        for line in step.command.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line.split(" > ")[0])
            if program in parsers:
                make, parse = parsers[program]
                with mock.patch.object(sys, "argv", [program, *words]):
                    parse(make(), words)
                parsed[program] += 1
    assert (
        parsed
        == {
            "features": {"fairseq-preprocess": 2, "fairseq-train": 4, "fairseq-generate": 3},
            "pixels": {"fairseq-preprocess": 1, "fairseq-train": 2, "fairseq-generate": 3},
        }[demo]
    )


def test_every_script_that_is_called_reads_its_options(steps):
    class ParsedError(Exception):
        """In place of the work."""

    def parse_and_stop(self, args=None, namespace=None):
        parse_args(self, args, namespace)
        raise ParsedError

    parse_args = argparse.ArgumentParser.parse_args
    for step in steps:
        for line in step.command.replace("\\\n", " ").splitlines():
            program, path, *words = shlex.split(line)
            if program != "python":
                continue
            with (
                mock.patch.object(sys, "path", [str((ROOT / path).parent), *sys.path]),
                mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop),
                pytest.raises(ParsedError),
            ):
                importlib.import_module(Path(path).stem).main(words)


def test_a_step_runs_again_only_when_something_changed(script, tmp_path):
    run = script("run")
    demo = tmp_path / "demo"
    counter = tmp_path / "counter"

    def step(name, command="true"):
        return run.Step(
            name, f"{command}; echo {name} >> {counter}; touch {demo}/{name}", [f"{demo}/{name}"]
        )

    def ran(*steps):
        counter.write_text("")
        runner = run.Runner(demo)
        for one in steps:
            runner.run([one])
        return counter.read_text().split()

    assert ran(step("a"), step("b")) == ["a", "b"]
    assert ran(step("a"), step("b")) == []
    assert ran(step("a"), step("b", "pwd")) == ["b"]
    assert ran(step("a", "pwd"), step("b", "pwd")) == ["a", "b"]  # b may depend on a
    (demo / "b").unlink()
    assert ran(step("a", "pwd"), step("b", "pwd")) == ["b"]
    with pytest.raises(run.StepFailed, match=r"(?s)why it failed.*The step b failed"):
        ran(step("a", "pwd"), step("b", "echo why it failed; false"))
    assert ran(step("a", "pwd"), step("b", "pwd")) == ["b"]


def test_a_folder_with_other_files_is_refused(script, tmp_path, capsys):
    run = script("run")
    mine = tmp_path / "images.h5"
    mine.write_text("mine")
    assert run.main(["--output", str(tmp_path)]) == 1
    assert "has files that are not of a demo, such as images.h5" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["images.h5"]


@pytest.mark.parametrize("other", ["pixels", "aligned", "walk"])
def test_another_demo_may_lie_there_already(other, script, tmp_path, root):
    """As the commands in docs/ and in aligned_attention.py put them there."""
    run = script("run")
    (tmp_path / other).mkdir()
    run.Runner(tmp_path)
    runner = run.Runner(tmp_path)
    (tmp_path / "done" / "a").write_text("true")
    runner.forget()
    assert not list((tmp_path / "done").iterdir())
    run.Runner(tmp_path)
