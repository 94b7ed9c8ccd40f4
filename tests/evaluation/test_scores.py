"""The scores are those of the `sacrebleu` command."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from caf_dkd_plugin.evaluation.scores import (
    SAMPLES,
    bootstrap_signature,
    paired_bootstrap,
    score,
    tokenise,
)


@pytest.fixture
def sacrebleu(tmp_path):
    """A function that runs the command on lists of lines: (references, systems, *options) -> output."""

    def run(references, systems, *options):
        paths = {}
        for name, lists in (("references", references), ("systems", systems)):
            paths[name] = [tmp_path / f"{name}{number}" for number in range(len(lists))]
            for path, lines in zip(paths[name], lists):
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        command = [sys.executable, "-m", "sacrebleu", *paths["references"], "-i", *paths["systems"]]
        done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
        return done.stdout

    return run


def signature_in(found, name):
    """The signature that the command's JSON has field by field."""
    keys = {
        "bleu": ("nrefs", "case", "eff", "tok", "smooth"),
        "chrf": ("nrefs", "case", "eff", "nc"),
    }
    return "|".join(f"{key}:{found[key]}" for key in keys[name])


# -- scores ---------------------------------------------------------------------------------------


def test_languages_without_spaces_have_sacrebleus_tokeniser(sacrebleu):
    references = ["一个女人在街上骑自行车。", "两只狗在雪地里奔跑。", "孩子们在公园里玩球。"]
    good = ["一个女人在路上骑自行车。", "两只狗在雪中奔跑。", "孩子们在公园玩球。"]
    bad = ["一个男人在睡觉。", "两只猫。", "公园里没有人。"]
    found = score(good, [references], "zh")["bleu"]
    assert "|tok:zh|" in found.signature
    command = sacrebleu([references], [good], "-tok", "zh", "-b", "-w", "9")
    assert found.value == pytest.approx(float(command), abs=1e-8)
    assert found.value > 30
    assert paired_bootstrap(bad * 20, good * 20, [references * 20], "zh")["bleu"] < 0.05


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="what it needs is installed")
def test_what_a_language_needs_is_named():
    with pytest.raises(ValueError, match=r"BLEU of ja: .*pip install sacrebleu\[ja\]"):
        score(["犬"], [["犬"]], "ja")


@pytest.mark.parametrize("sets", [1, 2])
def test_scores_and_signatures_are_those_of_the_command(sets, references, system, sacrebleu):
    given = [references, system(0.1, 9)][:sets]
    found = score(system(0.3, 1), given, "de")
    options = ("-m", "bleu", "chrf", "-w", "9")
    expected = json.loads(sacrebleu(given, [system(0.3, 1)], *options))
    for name, one in zip(("bleu", "chrf"), expected):
        assert 20 < found[name].value < 90
        assert found[name].value == pytest.approx(one["score"], abs=1e-8)
        assert found[name].signature.startswith(signature_in(one, name))
        assert f"nrefs:{sets}|" in found[name].signature


def test_case_counts_in_bleu_but_not_in_the_tokenised_one(references):
    found = score([line.title() for line in references], [references], "de")
    assert found["bleu"].value < 50
    assert found["tokenised_bleu"].value == pytest.approx(100)
    assert "case:mixed" in found["bleu"].signature


# By hand: lower case, Moses' punctuation and tokens; "usw." is an abbreviation in German.
WRITTEN = [
    "Der Mann (links) hält einen „großen“ Schläger, usw.",
    "„Was?“, fragt die Frau.",
    "Ein Hund läuft – schnell...",  # noqa: RUF001
]
TOKENS = [
    'der mann ( links ) hält einen " großen " schläger , usw.',
    '" was ? " , fragt die frau .',
    "ein hund läuft - schnell ...",
]


def test_tokens_are_as_in_earlier_papers():
    assert tokenise(WRITTEN, "de") == TOKENS


def test_tokenised_bleu_is_that_of_tokenised_text(references, system, sacrebleu):
    def by_hand(lines):
        """Of these lines, which have nothing but words, commas and full stops."""
        return [line.lower().replace(",", " ,").replace(".", " .") for line in lines]

    hypotheses = system(0.3, 1)
    options = ("--tokenize", "none", "--lowercase", "--smooth-method", "none", "--force", "-w", "9")
    expected = json.loads(sacrebleu([by_hand(references)], [by_hand(hypotheses)], *options))
    found = score(hypotheses, [references], "de")["tokenised_bleu"]
    assert found.value == pytest.approx(expected["score"], abs=1e-8)
    assert found.signature.endswith("|moses:de.lowercase.normalize")
    assert "tok:none|smooth:none" in found.signature


def test_the_language_decides_what_is_an_abbreviation():
    assert tokenise(WRITTEN[:1], "en") == [TOKENS[0].replace("usw.", "usw .")]


@pytest.mark.parametrize(
    ("lang", "rules"),
    [
        ("en", "en"),
        ("zh", "zh"),
        ("tr", "tr.abbreviations-of-en"),
        ("xx", "xx.abbreviations-of-en"),
    ],
)
def test_the_signature_says_whose_abbreviations_count(lang, rules, references):
    signature = score(references, [references], lang)["tokenised_bleu"].signature
    assert signature.endswith(f"|moses:{rules}.lowercase.normalize")
    english = rules.endswith("en")  # where "vs." is an abbreviation
    assert tokenise(["Rot vs. 5"], lang) == ["rot vs. 5" if english else "rot vs . 5"]


def test_unequal_lengths_are_refused(references, system):
    with pytest.raises(ValueError, match="40 hypotheses and 39 lines in references 2"):
        score(system(0, 1), [references, references[1:]], "de")
    for lists in ((references[1:], references), (references, references[1:])):
        with pytest.raises(ValueError, match=r"lists of \[39, 40\] lines cannot be compared"):
            paired_bootstrap(*lists, [references], "de")
    with pytest.raises(ValueError, match=r"\[39, 40\]"):
        paired_bootstrap(references, references, [references, references[1:]], "de")


# -- the paired bootstrap -------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "seed"), [(0.32, 3), (0.45, 4)])
def test_p_is_that_of_the_command(share, seed, references, system, sacrebleu):
    systems = [system(0.3, 1), system(share, seed)]
    found = paired_bootstrap(*systems, [references], "de")
    table = sacrebleu([references], systems, "-m", "bleu", "chrf", "--paired-bs", "-f", "text")
    bleu, chrf = map(float, re.findall(r"p = ([\d.]+)", table))
    assert found == {"bleu": pytest.approx(bleu, abs=1e-4), "chrf": pytest.approx(chrf, abs=1e-4)}
    assert found["bleu"] > 0.001  # or every p would do
    for part in bootstrap_signature().split("|"):
        assert f"|{part}|" in table


def test_identical_systems_do_not_differ(references, system):
    assert paired_bootstrap(system(0.3, 1), system(0.3, 1), [references], "de") == {
        "bleu": 1,
        "chrf": 1,
    }


def test_a_clear_difference_has_the_smallest_p(references, system):
    found = paired_bootstrap(system(0.6, 1), system(0.05, 2), [references], "de")
    assert found["bleu"] == found["chrf"] == pytest.approx(1 / (SAMPLES + 1))


def test_the_seed_is_sacrebleus(monkeypatch, references, system):
    systems = (system(0.3, 1), system(0.32, 3))
    assert bootstrap_signature() == "bs:1000|seed:12345"
    first = paired_bootstrap(*systems, [references], "de")
    assert paired_bootstrap(*systems, [references], "de") == first
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    assert bootstrap_signature() == "bs:1000|seed:7"
    assert paired_bootstrap(*systems, [references], "de") != first
