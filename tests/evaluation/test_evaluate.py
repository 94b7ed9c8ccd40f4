"""python -m caf_dkd_plugin evaluate"""

import json
import re
import statistics
from importlib.util import find_spec

import pytest

from caf_dkd_plugin.__main__ import main
from caf_dkd_plugin.evaluation.scores import paired_bootstrap, score


@pytest.fixture
def write(tmp_path, references):
    """A function that writes lines to a file of a folder of its own: (name, lines) -> its path."""

    def write(name, lines):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    write("references", references)
    return write


@pytest.fixture
def evaluate(write, tmp_path, capsys):
    """A function that runs the command: (*words, references=) -> (code, output, errors, JSON)."""

    def run(*words, references=("references",)):
        given = [word for name in references for word in ("--references", str(tmp_path / name))]
        json_path = tmp_path / "scores.json"
        options = [*given, "--target-lang", "de", *words, "--json", str(json_path)]
        code = main(["evaluate", *options])
        out, err = capsys.readouterr()
        return code, out, err, json.loads(json_path.read_text()) if json_path.exists() else None

    return run


@pytest.fixture
def systems(write, system):
    """Two systems of three seeds on the command line, and their translations."""
    shares = {"text-only": 0.35, "caf-dkd": 0.3}
    lines = {
        name: [system(share, 10 * share + seed) for seed in (1, 2, 3)]
        for name, share in shares.items()
    }
    words = []
    for name, seeds in lines.items():
        paths = [write(f"{name}.{seed}", each) for seed, each in enumerate(seeds)]
        words += ["--system", name, *paths]
    return words, lines


# -- figures --------------------------------------------------------------------------------------


def test_every_figure_is_there_unrounded(evaluate, systems, references, tmp_path):
    words, lines = systems
    code, _, _, report = evaluate(*words)
    assert code == 0
    assert report["references"] == [str(tmp_path / "references")]
    assert (report["target_lang"], report["sentences"], report["baseline"]) == (
        "de",
        40,
        "text-only",
    )
    for name, seeds in lines.items():
        found = report["systems"][name]
        assert found["files"] == [str(tmp_path / f"{name}.{seed}") for seed in range(3)]
        for metric in ("bleu", "chrf", "tokenised_bleu"):
            values = [score(each, [references], "de")[metric].value for each in seeds]
            assert found[metric]["values"] == values
            assert found[metric]["mean"] == pytest.approx(sum(values) / 3)
            variance = sum((value - sum(values) / 3) ** 2 for value in values) / 2  # n - 1
            assert found[metric]["sd"] == pytest.approx(variance**0.5)
    assert report["signatures"].keys() == {"bleu", "chrf", "tokenised_bleu", "bootstrap"}
    assert report["signatures"]["bootstrap"] == "bs:1000|seed:12345"
    assert report["versions"].keys() == {"sacrebleu", "sacremoses"}
    assert f"version:{report['versions']['sacrebleu']}" in report["signatures"]["bleu"]


def test_seed_k_is_compared_with_seed_k(evaluate, systems, references):
    words, lines = systems
    compared = evaluate(*words)[3]["comparisons"]
    assert compared.keys() == {"caf-dkd"}
    pairs = list(zip(lines["text-only"], lines["caf-dkd"]))
    expected = [paired_bootstrap(*pair, [references], "de") for pair in pairs]
    assert len({p["bleu"] for p in expected}) == 3
    for metric in ("bleu", "chrf"):
        found = compared["caf-dkd"][metric]
        assert found["p"] == [p[metric] for p in expected]
        gains = [
            score(one, [references], "de")[metric].value
            - score(base, [references], "de")[metric].value
            for base, one in pairs
        ]
        assert found["difference"] == pytest.approx(statistics.mean(gains))
        assert found["difference"] > 0


def test_another_baseline(evaluate, systems):
    words, _ = systems
    first = evaluate(*words)[3]["comparisons"]["caf-dkd"]
    other = evaluate(*words, "--baseline", "caf-dkd")[3]
    assert other["baseline"] == "caf-dkd"
    assert other["comparisons"].keys() == {"text-only"}
    found = other["comparisons"]["text-only"]["bleu"]["difference"]
    assert found == pytest.approx(-first["bleu"]["difference"])


@pytest.mark.parametrize("single", ["text-only", "caf-dkd"])
def test_one_file_is_compared_with_each_of_several(single, evaluate, systems, references):
    words, lines = systems
    place = words.index(single)
    del words[place + 2 : place + 4]
    report = evaluate(*words)[3]
    seeds = [lines["text-only"], lines["caf-dkd"]]
    seeds[single == "caf-dkd"] = 3 * [lines[single][0]]
    expected = [paired_bootstrap(*pair, [references], "de")["bleu"] for pair in zip(*seeds)]
    assert report["comparisons"]["caf-dkd"]["bleu"]["p"] == expected
    assert report["systems"][single]["bleu"]["sd"] is None


def test_several_references(evaluate, write, system):
    """What fits one of them as well as the other."""
    second = system(0.5, 9)
    write("second", second)
    word = ["--system", "copy", write("copy", second)]
    assert evaluate(*word)[3]["systems"]["copy"]["bleu"]["mean"] < 90
    report = evaluate(*word, references=("references", "second"))[3]
    assert report["systems"]["copy"]["bleu"]["mean"] == pytest.approx(100)
    assert "nrefs:2" in report["signatures"]["bleu"]
    assert len(report["references"]) == 2


def test_output_of_fairseq_is_text_in_another_order(
    teacher, generate, corpus, store, evaluate, write
):
    run = generate(teacher.best, "--image-h5", store)
    hypotheses = [run.hypotheses()[number] for number in range(22)]
    reference = (corpus / "text" / "test.de").read_text().splitlines()
    write("references", reference)
    printed, plain = write("printed", run.out.splitlines()), write("plain", hypotheses)
    report = evaluate("--system", "printed", printed, "--system", "plain", plain)[3]
    systems = report["systems"]
    assert systems["printed"]["bleu"] == systems["plain"]["bleu"]
    expected = score(hypotheses, [reference], "de")["bleu"].value
    assert systems["plain"]["bleu"]["mean"] == expected
    assert report["comparisons"]["plain"]["bleu"] == {"difference": 0, "p": [1]}


# -- the table ------------------------------------------------------------------------------------


def test_the_table_has_means_spreads_and_every_p(evaluate, systems):
    _, out, _, report = evaluate(*systems[0])
    lines = out.splitlines()
    assert lines[0].split("   ")[-1] == "tokenised BLEU"
    for name, found in report["systems"].items():
        [row] = [line for line in lines if re.match(rf"{name} +3 ", line)]
        cells = [f"{found[m]['mean']:.1f} ± {found[m]['sd']:.1f}" for m in ("bleu", "chrf")]
        assert re.match(rf"{name} +3 +{cells[0]} +{cells[1]} ", row)
    [row] = [line for line in lines if re.match(r"caf-dkd +[+-]", line)]
    found = report["comparisons"]["caf-dkd"]["bleu"]
    p = "  ".join(f"{value:.3f}" for value in found["p"])
    assert f"{found['difference']:+.1f}   {p} " in row
    for signature in report["signatures"].values():
        assert signature in out
    assert "comparable with those only" in out


def test_one_seed_has_no_spread_and_one_system_no_comparison(evaluate, write, system):
    code, out, _, report = evaluate("--system", "only", write("only", system(0.2, 1)))
    assert code == 0
    assert re.search(r"^only +1 +\d\d\.\d +\d\d\.\d +\d\d\.\d$", out, re.MULTILINE)
    assert report["comparisons"] == {}
    assert "against" not in out
    assert "bootstrap" not in out


# -- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def refused(evaluate, monkeypatch):
    """`refused(words, *messages)`: each is in one error, nothing is scored and nothing written."""

    def check(words, *messages, **options):
        with monkeypatch.context() as patch:
            patch.setattr("caf_dkd_plugin.evaluation.evaluate.score", None)
            code, out, err, report = evaluate(*words, **options)
        assert (code, out, report) == (1, "", None)
        lines = err.splitlines()
        assert len(lines) == len(messages)
        for line, message in zip(lines, messages):
            assert line.startswith("error: ")
            assert message in line

    return check


def test_all_problems_come_at_once(refused, write, references, tmp_path):
    short, pieces = write("short", references[1:]), write("pieces", ["▁ein ▁Hund"] * 40)
    good = write("good", references)
    refused(
        [
            *("--system", "a", short, pieces, str(tmp_path / "none")),
            *("--system", "a", good, "--system", "b", good, good, "--system", "c"),
            *("--baseline", "d"),
        ],
        "--system a is given 2 times",
        f"--system b names {good} twice",
        "--system c names no file",
        "--baseline d is none of the systems: a, a, b, c",
        "short has 39 lines, the references have 40",
        "subwords",
        "none cannot be read",
    )


def test_a_system_without_a_name(refused, write, references):
    """Its first file would be taken for the name, and one seed fewer be scored."""
    first, second = write("first", references), write("second", references)
    message = f"--system {first} is a file, but first comes the system's name"
    refused(["--system", first, second], message)


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2)])
def test_unequal_numbers_of_seeds(first, second, refused, write, references):
    paths = [write(f"file{number}", references) for number in range(5)]
    words = ["--system", "a", *paths[:first], "--system", "b", *paths[:second]]
    refused(words, f"b has {second} files, the baseline a has {first}")


def test_references_of_unequal_length(refused, write, references):
    write("second", references[2:])
    refused(
        ["--system", "a", write("a", references)],
        "second has 38 lines",
        references=("references", "second"),
    )


def test_references_that_are_no_text(refused, write, references):
    write("second", [line.replace(" ", "@@ ") for line in references])
    refused(
        ["--system", "a", write("a", references)],
        "subwords ('@@ ') left in 40 of 40 lines",
        references=("references", "second"),
    )


def test_a_place_for_the_json_that_is_none(write, references, tmp_path, capsys):
    words = ["--references", write("r", references), "--target-lang", "de", "--system", "a"]
    words += [write("a", references), "--json"]
    assert main(["evaluate", *words, str(tmp_path / "no" / "x.json")]) == 1
    assert main(["evaluate", *words, str(tmp_path)]) == 1
    assert main(["evaluate", *words, "/proc/x.json"]) == 1  # nobody can make a file there
    err = capsys.readouterr().err
    assert "error: --json /proc/x.json: /proc cannot be written to: " in err
    assert f"there is no folder {tmp_path / 'no'}" in err
    assert f"--json {tmp_path} is a folder" in err


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="what it needs is installed")
def test_a_language_that_sacrebleu_cannot_cut_is_refused(write, references, capsys):
    words = ["--references", write("r", references), "--system", "a", write("a", references)]
    assert main(["evaluate", *words, "--target-lang", "ja"]) == 1
    assert capsys.readouterr().err.startswith("error: BLEU of ja: ")


def test_an_interrupted_run_leaves_the_older_json(
    evaluate, write, references, tmp_path, monkeypatch
):
    path = tmp_path / "scores.json"
    path.write_text('"older"')

    def interrupted(self, *args, **kwargs):
        self.write_bytes(b"half")
        raise KeyboardInterrupt

    words = ["--system", "a", write("a", references)]
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(*words)
    assert path.read_text() == '"older"'
    assert not list(tmp_path.glob("*.partial"))
