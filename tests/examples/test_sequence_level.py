"""Sequence-level distillation: the script that makes pairs, and the recipe around it."""

import importlib
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from sacrebleu.metrics import BLEU

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "examples" / "sequence_level"

SOURCE = ["a man holds a bat", "a crane", "the seal & the bow, again", "nails"]
TARGET = ["ein Mann hält einen Schläger", "ein Kran", "das Siegel und der Bogen", "Nägel"]
IMAGES = ["1.jpg", "", "3.jpg", "4.jpg"]


def load_script(path):
    """The script as a module, imported as where Python runs it."""
    with mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
        return importlib.import_module(path.stem)


@pytest.fixture(scope="module")
def synthetic_pairs():
    return load_script(RECIPE / "synthetic_pairs.py")


def printed(number, source, *hypotheses):
    """What fairseq prints of one sentence, given (score, text) or (score, tokens, text)."""
    lines = [f"S-{number}\t{source}", f"W-{number}\t0.011\tseconds"]
    for score, tokens, *text in hypotheses:
        lines += [f"H-{number}\t{score}\t{tokens}", f"D-{number}\t{score}\t{(*text, tokens)[0]}"]
        lines.append(f"P-{number}\t-0.1 -0.2")
    return "".join(f"{line}\n" for line in lines)


def blocks():
    """The output for SOURCE, sentence by sentence."""
    return [
        printed(n, source, (-0.5, target)) for n, (source, target) in enumerate(zip(SOURCE, TARGET))
    ]


@pytest.fixture
def run(synthetic_pairs, tmp_path, capsys):
    """A function that runs the script: (output of fairseq, *options, other files=) -> Result."""

    class Result:
        def __init__(self, code):
            self.code = code
            self.out, self.errors = capsys.readouterr()

        def __getattr__(self, suffix):
            path = tmp_path / "out" / f"train.{suffix}"
            return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else None

    def run(output, *options, source=SOURCE, **lists):
        outputs = [output] if isinstance(output, str) else output
        for number, text in enumerate(outputs):
            (tmp_path / f"output{number}").write_text(text, encoding="utf-8")
        arguments = ["--translations", *(tmp_path / f"output{n}" for n in range(len(outputs)))]
        for name, lines in {"source": source, **lists}.items():
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            arguments += [f"--{name.replace('_', '-')}", tmp_path / name]
        arguments += ["--source-lang", "en", "--target-lang", "de", *options]
        arguments += ["--output", tmp_path / "out" / "train"]
        return Result(synthetic_pairs.main(list(map(str, arguments))))

    return run


# -- reading what fairseq printed -----------------------------------------------------------------


def test_pairs_are_in_the_order_of_the_sentences(run):
    shuffled = random.Random(1).sample(blocks(), len(SOURCE))
    log = "2026-01-01 | INFO | fairseq.tasks | [en] dictionary: 9 types\n"
    for output in (log + "".join(shuffled), [shuffled[0] + log, "".join(shuffled[1:])]):
        done = run(output, images=IMAGES)
        assert (done.code, done.en, done.de, done.images) == (0, SOURCE, TARGET, IMAGES)
        assert "4 pairs, 3 of them with an image" in done.out


def test_there_may_be_no_images(run):
    done = run("".join(blocks()))
    assert (done.code, done.de, done.images) == (0, TARGET, None)
    assert done.out.endswith("train.{en,de}: 4 pairs\n")


def test_of_several_hypotheses_the_best_scored_is_taken(run):
    output = blocks()
    output[1] = printed(1, SOURCE[1], (-0.9, "ein Vogel"), (-0.2, "ein Kran"), (-1e-1, "Kräne"))
    assert run("".join(output)).de[1] == "Kräne"


def test_or_the_closest_to_the_real_translation(run):
    """Kim & Rush 2016, section 3.3: a hypothesis that shares more n-grams wins over a better score."""
    output = blocks()
    output[0] = printed(
        *(0, SOURCE[0], (-0.1, "ein Mann hält eine Fledermaus")),
        *((-0.3, "ein Mann hält einen Schläger hoch"), (-0.2, "Herr Schläger")),
    )
    real = ["ein Mann hält einen Schläger", "x", "y", "z"]
    assert run("".join(output), closest_to=real).de == [
        "ein Mann hält einen Schläger hoch",
        *TARGET[1:],
    ]
    output[0] = printed(0, SOURCE[0], (-0.3, "ganz anders"), (-0.1, "sonst nichts"))
    assert run("".join(output), closest_to=real).de[0] == "sonst nichts"  # equally far


def test_the_text_is_the_decoded_one(run):
    """Pieces in H-, text in D-; and line separators that are no line feeds stay in the text."""
    source, target = "one\u2028two \x85", "eins\u2028zwei"
    output = printed(0, "▁one \u2028 two", (-0.5, "▁eins \u2028 zwei", target))
    done = run(output, source=[source])
    assert (done.code, done.en, done.de) == (0, [source], [target])


@pytest.mark.parametrize(
    "source",
    [
        "▁a ▁man ▁hold s ▁a ▁bat",
        "a m@@ an holds a bat",
        "A man hold s a bat .",
        "▁a ▁man <unk> ▁a ▁b <unk>",
    ],
)
def test_the_sentence_is_recognised_in_any_form(run, source):
    assert run(printed(0, source, (-0.5, "x")), source=SOURCE[:1]).code == 0


@pytest.mark.parametrize(
    ("raw", "source"),
    [
        ("jeans &amp; a hat", "▁jean s ▁& am p ; ▁a ▁hat"),
        ("jeans & a hat", "jeans &amp; a hat"),
        ("ﬁne Straße", "▁fine ▁STRASSE"),
        ("cafe\u0301 ½", "ca@@ fé 1\u20442"),
    ],
)
def test_it_is_recognised_through_normalisation(run, raw, source):
    assert run(printed(0, source, (-0.5, "x")), source=[raw]).code == 0


def test_a_teacher_may_read_another_language(run):
    """A teacher of a related pair: the student's sentences go with what it made of its own."""
    french = ["un homme", "une grue", "le phoque", "des clous"]
    output = [printed(n, text, (-0.5, TARGET[n])) for n, text in enumerate(french)]
    done = run("".join(output), teacher_source=french, images=IMAGES)
    assert (done.code, done.en, done.de, done.images) == (0, SOURCE, TARGET, IMAGES)
    assert "4 of the 4 sentences" in run("".join(output)).errors


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out[:-1], "1 of the 4 sentences of .*source have no translation .*: line 4"),
        (lambda out: out[:1] + out[2:], "have no translation .*: line 2"),
        (lambda out: [*out, "S-3\tnails\n"], "1 sentences were translated twice: line 4"),
        (lambda out: out * 2, "4 sentences were translated twice: lines 1, 2, 3, 4"),
        (lambda out: [*out[:3], "S-3\tnails\n"], "have no translation .*: line 4"),
        (lambda out: [line.replace("S-", "T-") for line in out], "4 of the 4 sentences of"),
        (lambda out: [*out, printed(7, "x", (-1, "y"))], "but 1 more were translated: line 8"),
        (lambda out: "".join(out)[:-1], "output0 ends within a line"),
        (
            lambda out: [line.replace("bat", "hat") for line in out],
            r"1 of the 4 .* are not those .*: line 1\. Line 1 is 'a man holds a bat', but S-0 is "
            "'a man holds a hat'",
        ),
        (
            lambda out: [line.replace("S-1\t", "S-1\tnot ") for line in out],
            "are not those that were translated: line 2",
        ),
        (
            lambda out: [line.replace("\tein ", "\t▁ein ") for line in out],
            "2 translations are still",
        ),
        (lambda out: [line.replace("Kran", "Kr@@ an") for line in out], "1 translations are still"),
        (lambda out: [line.replace("Kran", "<unk>") for line in out], "hold <unk>: line 2"),
        (lambda out: [line.replace("ein Kran", "") for line in out], "are empty: line 2"),
        (lambda out: [line.replace("-0.5", "nan") for line in out], "have no translation"),
    ],
)
def test_a_wrong_output_is_refused(run, change, message):
    done = run("".join(change(blocks())))
    assert done.code == 1
    assert re.search(message, done.errors)
    assert (done.en, done.de) == (None, None)


def test_lost_spaces_are_noticed(run):
    """--bpe sentencepiece on what --remove-bpe sentencepiece has decoded already."""
    lost = [
        printed(n, source, (-0.5, target, target.replace(" ", "")))
        for n, (source, target) in enumerate(zip(SOURCE, TARGET))
    ]
    assert "the translations have lost their spaces" in run("".join(lost)).errors
    one = [*blocks()[:3], lost[3]]
    assert run("".join(one)).code == 0


@pytest.mark.parametrize("name", ["images", "closest_to", "teacher_source"])
def test_lists_of_another_length_are_refused(run, name):
    done = run("".join(blocks()), **{name: SOURCE[:3]})
    option = f"--{name.replace('_', '-')}"
    assert re.search(rf"{option} \S+ has 3 lines, but \S+source has 4 sentences", done.errors)


def test_there_must_be_something_to_choose_from(run):
    done = run("".join(blocks()), closest_to=TARGET)
    assert "--closest-to has nothing to choose from" in done.errors


def test_all_problems_are_reported_at_once(run):
    done = run("".join(blocks()[1:])[:-1], images=IMAGES[:2], closest_to=["x"])
    errors = ("ends within a line", "--images", "--closest-to")
    assert done.code == 1
    assert all(error in done.errors for error in errors)
    done = run("".join(blocks()[1:]).replace("nails", "x"), images=["a b ", *IMAGES[1:]])
    for error in ("1 of the 4 sentences", "line 4 is 'nails'", "spaces around the id"):
        assert error.lower() in done.errors.lower()
    assert done.errors.count("error: ") == 3


def test_files_that_cannot_be_read_are_named(run, tmp_path):
    lists = {"--source": "no.en", "--images": "no.images", "--closest-to": "no.de"}
    options = [word for option, name in lists.items() for word in (option, tmp_path / name)]
    done = run("".join(blocks()), *options)
    assert done.code == 1
    assert done.errors.count("error: ") == 3
    assert all(f"{tmp_path / name} cannot be read: " in done.errors for name in lists.values())


def test_there_must_be_sentences(run):
    assert "source has no sentences" in run("", source=[]).errors


def test_empty_lines_are_left_out_with_their_images(run):
    output = blocks()
    output[0] = printed(0, SOURCE[0], (-0.5, ""))
    source = [*SOURCE[:2], " ", SOURCE[3]]
    output[2] = printed(2, "", (-0.5, "irgendwas"))
    refused = run("".join(output), source=source, images=IMAGES)
    assert "2 sentences or their translations are empty: lines 1, 3" in refused.errors
    done = run("".join(output), "--drop-empty", source=source, images=IMAGES)
    assert (done.en, done.de) == ([SOURCE[1], SOURCE[3]], [TARGET[1], TARGET[3]])
    assert done.images == [IMAGES[1], IMAGES[3]]
    assert "left out 2 empty sentences or translations: lines 1, 3" in done.out


# -- the recipe -----------------------------------------------------------------------------------


def settings_of(script, folder, **variables):
    """The options that a script gives to fairseq-train, with folder/w for WORK; of an option given twice
    the last one."""
    program = folder / "fairseq-train"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder}/arguments\n")
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "WORK": str(folder / "w"), **variables}
    subprocess.run(["bash", script], cwd=ROOT, env=environment, check=True)
    data, *words = (folder / "arguments").read_text().splitlines()
    found, name = {"data": data}, None
    for word in words:
        if word.startswith("--"):
            name = word
        found[name] = word
    return found


def test_the_student_is_that_of_multi30k(tmp_path):
    """With both levels the distilled one, else the one without a teacher."""
    script = "examples/multi30k/train_student.sh"
    student = settings_of(script, tmp_path)
    undistilled = settings_of(script, tmp_path, TEACHER="")
    both = settings_of("examples/sequence_level/train.sh", tmp_path, LEVEL="both", UPSAMPLE="3")
    alone = settings_of("examples/sequence_level/train.sh", tmp_path, VOCABULARY="own")

    def changed(one, other):
        return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}

    ours = {"data", "--save-dir", "--max-epoch", "--upsample-primary"}
    assert changed(student, both) == changed(undistilled, alone) == ours
    assert "--teacher-path" in both
    assert not {"--teacher-path", "--teacher-cache", "--kd-lambda"} & alone.keys()
    data = tmp_path / "w" / "sequence-level"
    assert (both["data"], alone["data"]) == (f"{data}/data-teacher", f"{data}/data-own")
    assert (both["--upsample-primary"], alone["--upsample-primary"]) == ("3", "1")
    assert both["--save-dir"] != alone["--save-dir"]


@pytest.mark.parametrize(
    ("script", "variables"),
    [("train.sh", {"LEVEL": "word"}), ("prepare.sh", {"VOCABULARY": "mine"})],
)
def test_a_misspelt_choice_is_refused(script, variables):
    environment = {**os.environ, "MULTI30K_ROOT": "r", "WORK": "w", **variables}
    [(name, value)] = variables.items()
    done = subprocess.run(
        ["bash", RECIPE / script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"error: {name}={value} is neither" in done.stderr


# -- from the teacher to the student --------------------------------------------------------------

PROGRAM = r"""#!/usr/bin/env bash
# Ask the test to do this, and print what it printed.
(IFS=$'\x1f'; echo "${0##*/}$IFS$*" >&"$ASK")
read -r printed <&"$ANSWER" && cat "$printed"
"""


class Recipe:
    """Runs the recipe's shell scripts on the demo's corpus; what they call is run in this process.

    Starting Python and importing torch for each of the calls would take most of the time.
    """

    def __init__(self, folder, fairseq):
        self.work = folder / "work"
        self.out = self.work / "sequence-level"
        self._folder = folder
        self._fairseq = fairseq
        for name in ("python", "fairseq-interactive", "fairseq-train"):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(PROGRAM)
            program.chmod(0o755)

    def run(self, script, *arguments, **variables):
        """Run a script; returns the Run of its last fairseq command."""
        asked, ask = os.pipe()
        answer, answered = os.pipe()
        environment = {
            **os.environ,
            **{
                "PATH": f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "PYTHON": "python",
            },
            **{"MULTI30K_ROOT": str(self._folder / "root"), "SUBSET": "50", "MORE": "64"},
            "TEACHER_IMAGES": str(self.work / "images.h5"),
            **{"WORK": str(self.work), "ASK": str(ask), "ANSWER": str(answer), **variables},
        }
        command = ["bash", RECIPE / script, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=(ask, answer))
        os.close(ask)
        os.close(answer)
        last = None
        with os.fdopen(asked) as asked, os.fdopen(answered, "w") as answered:
            for line in asked:
                program, *words = line.rstrip("\n").split("\x1f")
                printed = self._folder / "printed"
                if program == "python":
                    assert load_script(ROOT / words[0]).main(words[1:]) == 0
                    printed.write_text("")
                else:
                    last = self._fairseq(program.removeprefix("fairseq-"), *words)
                    printed.write_text(last.out)
                print(printed, file=answered, flush=True)
        assert process.wait() == 0
        return last


@pytest.fixture(scope="module")
def recipe(fairseq, train, corpus, data_bin, store, tmp_path_factory):
    """The recipe after translate.sh: 50 pairs of the student's own, 14 sentences besides."""
    folder = tmp_path_factory.mktemp("recipe")
    text = folder / "root" / "text"
    text.mkdir(parents=True)
    for split, name in {"train": "train", "valid": "val", "test": "test_2016_flickr"}.items():
        shutil.copy(data_bin / f"{split}.images", text / f"{name}.images")
        for lang in ("en", "de"):
            shutil.copy(corpus / "text" / f"{split}.{lang}", text / f"{name}.{lang}")
    made = Recipe(folder, fairseq)
    teacher_data = made.work / "teacher-data"
    prepare = ["--root", text.parent, "--source", "en", "--target", "de", "--output"]
    subwords = ["--sentencepiece", teacher_data / "sentencepiece.model"]
    script = load_script(ROOT / "preprocess" / "prepare_multi30k.py")
    assert script.main([*map(str, prepare), str(teacher_data)]) == 0
    student = [*prepare, made.work / "student-data", "--subset", "50", *subwords]
    assert script.main(list(map(str, student))) == 0
    shutil.copy(store, made.work / "images.h5")
    use = ("--image-h5", store, "--share-all-embeddings", "--max-epoch", "6")
    train(made.work / "teacher", *use, data=teacher_data)
    made.run("translate.sh", "--max-len-b", "20")
    return made


TRAINING = (
    *("--arch", "cross_modal_rnn_tiny", "--num-workers", "0", "--log-format", "json"),
    *("--validate-interval", "1", "--max-epoch"),
)


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_sentences_without_translations_are_others(recipe, corpus, data_bin):
    text = recipe.out / "untranslated" / "text"
    assert lines(text / "train.en") == lines(corpus / "text" / "train.en")[50:]
    assert lines(text / "train.images") == lines(data_bin / "train.images")[50:]
    assert len(lines(text / "train.de")) == 14


@pytest.mark.parametrize("variables", [{"SUBSET": "none"}, {"MORE": "none"}, {"MORE": "50"}])
def test_lines_that_are_not_there_stop_it(recipe, variables, tmp_path):
    """Else the student's own sentences would pass for sentences without translations."""
    with pytest.raises(AssertionError, match="wait"):
        recipe.run("translate.sh", OUT=str(tmp_path), **variables)
    assert not (tmp_path / "untranslated" / "source.en").exists()


@pytest.fixture
def of_three(recipe, tmp_path):
    """translate.sh for three lines of the student's own, of which student-data knows nothing."""
    (tmp_path / "own.lines").write_text("60\n7\n55\n")
    variables = {"OUT": str(tmp_path / "out"), "SUBSET": str(tmp_path / "own.lines")}
    recipe.run("translate.sh", "--max-len-b", "20", **variables)
    return tmp_path / "out", variables


def test_nothing_stays_of_other_lines(of_three, recipe):
    """Else a run that failed would leave the new lines beside the old translations."""
    out, variables = of_three
    assert {path.parent.name for path in out.glob("*/text")} == {"own", "closest", "untranslated"}
    with pytest.raises(AssertionError):
        recipe.run("translate.sh", **{**variables, "MORE": "none"})
    assert len(list(out.glob("*/text"))) == 3  # what is refused deletes nothing
    Path(variables["SUBSET"]).write_text("7\n")
    with pytest.raises(OSError, match=r"not found: none\.pt"):
        recipe.run("translate.sh", **{**variables, "TEACHER": "none.pt"})
    assert lines(out / "own" / "lines") == ["7"]
    assert not list(out.glob("*/text"))


def test_the_students_own_sentences_are_those_of_subset(of_three, recipe, corpus, data_bin):
    out, variables = of_three
    chosen = [60, 7, 55]
    own = {suffix: lines(corpus / "text" / f"train.{suffix}") for suffix in ("en", "de")}
    own["images"] = lines(data_bin / "train.images")
    own = {suffix: [text[number] for number in chosen] for suffix, text in own.items()}
    for part in ("own", "closest"):
        assert lines(out / part / "text" / "train.en") == own["en"]
        assert lines(out / part / "text" / "train.images") == own["images"]
    assert len(lines(out / "untranslated" / "text" / "train.en")) == 64 - 3
    bleu = BLEU(effective_order=True)
    for best, closest, real in zip(
        lines(out / "own" / "text" / "train.de"),
        lines(out / "closest" / "text" / "train.de"),
        own["de"],
    ):
        scores = [bleu.sentence_score(text, [real]).score for text in (best, closest)]
        assert scores == sorted(scores)

    recipe.run("prepare.sh", PARTS="real own", VOCABULARY="own", **variables)
    data = out / "data-own"
    assert lines(data / "train.images") == lines(data / "train1.images") == own["images"]
    read = lines(Path(f"{data}.parts") / "all" / "text" / "train.de")
    assert read == [*own["de"], *lines(out / "own" / "text" / "train.de")]


def test_parts_of_another_subset_are_refused(of_three, recipe, capfd):
    out, variables = of_three
    with pytest.raises(AssertionError, match="wait"):
        recipe.run("prepare.sh", **{**variables, "SUBSET": "50"})
    assert f"error: SUBSET=50 is not what translate.sh had, whose lines are in {out}/own/lines" in (
        capfd.readouterr().err
    )
    assert not (out / "data-teacher").exists()


def test_a_line_that_is_not_there_is_named(recipe, tmp_path, capfd):
    (tmp_path / "own.lines").write_text("3\n64\n")
    with pytest.raises(AssertionError, match="wait"):
        recipe.run("translate.sh", OUT=str(tmp_path), SUBSET=str(tmp_path / "own.lines"))
    assert "train.en has no line 64" in capfd.readouterr().err


def test_numbers_with_windows_line_ends_are_the_same_numbers(recipe, tmp_path, capfd):
    """All sentences are the student's own, so none is left."""
    (tmp_path / "own.lines").write_bytes(b"".join(b"%d\r\n" % number for number in range(64)))
    with pytest.raises(AssertionError, match="wait"):
        recipe.run("translate.sh", OUT=str(tmp_path), SUBSET=str(tmp_path / "own.lines"))
    assert "has no line that is not in SUBSET" in capfd.readouterr().err


def test_generate_makes_the_same_pairs(recipe, generate, store, synthetic_pairs, tmp_path):
    options = ("--image-h5", store, "--gen-subset", "train", "--beam", "5", "--unkpen", "100")
    run = generate(
        *(
            recipe.work / "teacher" / "checkpoint_best.pt",
            *options,
            "--remove-bpe",
            "sentencepiece",
        ),
        data=recipe.work / "student-data",
    )
    (tmp_path / "output").write_text(run.out)
    own = recipe.out / "own"
    options = ["--translations", tmp_path / "output", "--source", own / "source.en"]
    options += ["--images", own / "source.images", "--output", tmp_path / "train"]
    options += ["--source-lang", "en", "--target-lang", "de"]
    assert synthetic_pairs.main(list(map(str, options))) == 0
    for suffix in ("en", "de", "images"):
        assert lines(tmp_path / f"train.{suffix}") == lines(own / "text" / f"train.{suffix}")


def test_closest_is_nowhere_further(recipe, corpus):
    bleu = BLEU(effective_order=True)
    real = lines(corpus / "text" / "train.de")[:50]
    own, closest = (
        [
            bleu.sentence_score(text, [reference]).score
            for text, reference in zip(lines(recipe.out / part / "text" / "train.de"), real)
        ]
        for part in ("own", "closest")
    )
    assert all(one >= other for one, other in zip(closest, own))
    assert sum(closest) > sum(own)


def test_a_student_with_subwords_of_its_own(recipe, fairseq, generate, data_bin, store):
    """Made, trained, gone on with, validated and used."""
    recipe.run("prepare.sh", VOCABULARY="own")
    data = recipe.out / "data-own"
    images = lines(data_bin / "train.images")
    assert lines(data / "train.images") == lines(data / "train1.images") == images[:50]
    assert lines(data / "train2.images") == images[50:]
    assert lines(data / "dict.de.txt") != lines(recipe.work / "teacher-data" / "dict.de.txt")

    for epochs in (1, 2):
        (recipe.out / "student-own-sequence" / "command").unlink(missing_ok=True)  # go on longer
        run = recipe.run("train.sh", *TRAINING, epochs, VOCABULARY="own", UPSAMPLE="3")
    assert "Loaded checkpoint" in run.log
    with_image = 4 * sum(map(bool, images[:50])) + sum(map(bool, images[50:]))
    assert f"train: {with_image} of {4 * 50 + 14} sentences have an image" in run.log
    last = recipe.out / "student-own-sequence" / "checkpoint_last.pt"
    validated = fairseq(
        *("validate", data, "--task", "multimodal_translation", "--path", last),
        *("--batch-size", "8", "--num-workers", "0"),
    )
    assert f"loss {run.logged('valid_loss')[-1]:g} " in validated.text
    use = ("--image-h5", store, "--remove-bpe", "sentencepiece")
    assert len(generate(last, *use, data=data).hypotheses()) == 22


def test_sequence_and_word_level_together(recipe, data_bin):
    recipe.run("prepare.sh")
    assert (recipe.out / "data-teacher" / "train2.images").is_file()
    recipe.run("prepare.sh", PARTS="real closest")  # nothing stays of the other parts
    run = recipe.run("train.sh", *TRAINING, 1, LEVEL="both")
    with_image = 2 * sum(map(bool, lines(data_bin / "train.images")[:50]))
    assert f"train: {with_image} of 100 sentences have an image" in run.log
    assert all(loss > 0 for loss in run.logged("train_kd_loss"))


def test_word_level_with_subwords_of_its_own_is_refused(recipe):
    recipe.run("prepare.sh", VOCABULARY="own")
    with pytest.raises(ValueError, match="target dictionary"):
        recipe.run("train.sh", *TRAINING, 1, VOCABULARY="own", LEVEL="both")
