from dataclasses import replace

import numpy as np
import pytest

from caf_dkd_plugin.evaluation.awareness_report import Outcome, figures, table
from caf_dkd_plugin.evaluation.derangements import Conditions
from caf_dkd_plugin.evaluation.log_probability import Surprisal
from caf_dkd_plugin.evaluation.masked_words import MaskedWord
from caf_dkd_plugin.evaluation.scores import paired_bootstrap, score

REFERENCES = [f"Ein roter Ball liegt auf dem Tisch Nummer {number}." for number in range(20)]
WRONG = [line.replace("roter", "blauer") for line in REFERENCES]
HALF = REFERENCES[:10] + WRONG[10:]
MASKED = [[MaskedWord("red", ("roter",))] if number % 2 else [] for number in range(20)]


def outcome(lines, bits):
    return Outcome(lines, Surprisal(np.asarray(bits, dtype=float), np.arange(1, 21)))


@pytest.fixture(scope="module")
def outcomes():
    bits = np.random.default_rng(0).uniform(10, 20, size=20)
    deranged = [outcome(WRONG, bits + 3), outcome(HALF, bits + 1)]
    return Conditions(outcome(REFERENCES, bits), deranged, outcome(HALF, bits - 2))


@pytest.fixture(scope="module")
def found(outcomes):
    return figures(outcomes, REFERENCES, "de", MASKED, 1)


def test_bleu_is_that_of_the_scores(found):
    values = [score(lines, [REFERENCES], "de")["bleu"].value for lines in (WRONG, HALF)]
    bleu = found["bleu"]
    assert (bleu["right"], bleu["deranged"], bleu["none"]) == (
        pytest.approx(100),
        values,
        values[1],
    )
    assert bleu["deranged_mean"] == pytest.approx(sum(values) / 2)
    assert bleu["deranged_sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert bleu["gain"] == pytest.approx(
        {"deranged": 100 - sum(values) / 2, "none": 100 - values[1]}
    )
    p = [paired_bootstrap(lines, REFERENCES, [REFERENCES], "de")["bleu"] for lines in (WRONG, HALF)]
    assert bleu["p"] == {"deranged": p, "none": p[1]}
    assert bleu["signature"].startswith("nrefs:1|case:mixed")


def test_image_awareness_is_a_mean_over_sentences(found, outcomes):
    bits = found["bits_per_token"]
    assert bits["right"] == pytest.approx(outcomes.right.references.bits.sum() / 210)
    assert bits["deranged"] == pytest.approx([bits["right"] + 3 / 10.5, bits["right"] + 1 / 10.5])
    harmonic = np.mean(1 / np.arange(1, 21))
    assert bits["gain"] == pytest.approx({"deranged": 2 * harmonic, "none": -2 * harmonic})
    assert bits["p"] == {"deranged": 1 / 10001, "none": 1 / 10001}


def test_masked_words_are_counted_over_all_words(found):
    words = found["masked_words"]
    assert words["words"] == 10
    assert (words["right"], words["deranged"], words["none"]) == (1, [0, 0.5], 0.5)
    assert words["gain"] == {"deranged": 0.75, "none": 0.5}
    # ten sentences differ in the first case, five in the second, all to the same side
    assert words["p"] == {"deranged": 2 / 2**10, "none": 2 / 2**5}


def test_equal_outcomes_say_nothing(outcomes):
    same = outcomes.right
    found = figures(Conditions(same, [same, same, same], same), REFERENCES, "de", None, 1)
    assert found.keys() == {"bleu", "bits_per_token"}
    for measure in found.values():
        assert measure["deranged_sd"] == 0
        assert measure["gain"] == {"deranged": 0, "none": 0}
    assert found["bleu"]["p"] == {"deranged": [1, 1, 1], "none": 1}
    assert found["bits_per_token"]["p"] == {"deranged": 1, "none": 1}


def test_a_baseline_is_one_more_to_gain_over(outcomes, found):
    baseline = outcome(WRONG, outcomes.right.references.bits + 2)
    more = figures(replace(outcomes, baseline=baseline), REFERENCES, "de", MASKED, 1)
    expected = {
        "bleu": (found["bleu"]["deranged"][0], found["bleu"]["p"]["deranged"][0]),
        "bits_per_token": (found["bits_per_token"]["right"] + 2 / 10.5, 1 / 10001),
        "masked_words": (0, 2 / 2**10),
    }
    for name, (value, p) in expected.items():
        measure = more[name]
        assert measure.pop("baseline") == pytest.approx(value)
        assert measure["p"].pop("baseline") == pytest.approx(p)
        gain = measure["gain"].pop("baseline")
        if name != "bits_per_token":  # whose gain is a mean over sentences
            assert gain == pytest.approx(measure["right"] - value)
        assert measure == found[name]
    more["bleu"]["baseline"], more["bleu"]["p"]["baseline"] = 12.5, 0.25
    for name in ("bits_per_token", "masked_words"):
        more[name]["baseline"], more[name]["p"]["baseline"] = 0.5, 0.125
    for measure in more.values():
        measure["gain"]["baseline"] = 0.75
    lines = table(more).splitlines()
    assert lines[6].split() == ["baseline", "12.50", "0.2500", "0.5000", "50.0"]
    assert lines[9].split() == [
        "gain",
        "over",
        "baseline",
        "+0.75",
        "+0.7500",
        "0.1250",
        "+75.0",
        "0.1250",
    ]


def test_the_table_has_a_row_for_each_condition_and_gain(found):
    lines = table(found).splitlines()
    assert [line[:22].strip() for line in lines[1:8]] == [
        *("right image", "wrong images 1", "wrong images 2", "mean +- sd", "no image"),
        *("gain over wrong images", "gain over none"),
    ]
    assert lines[0].split() == ["BLEU", "p", "bits/token", "p", "masked", "words,", "%", "p"]
    assert lines[1].split()[2] == "100.00"
    assert lines[1].endswith("100.0")
    assert "25.0 +- 35.4" in lines[4]
    assert lines[6].endswith("+75.0  0.0020")
    assert lines[-1] == f"sacreBLEU: {found['bleu']['signature']}"


def test_one_derangement_has_no_spread(outcomes):
    one = Conditions(outcomes.right, outcomes.deranged[:1], outcomes.none)
    found = figures(one, REFERENCES, "de", MASKED, 1)
    assert found["bleu"]["deranged_sd"] is None
    lines = table(found).splitlines()
    assert not [line for line in lines if "+-" in line]
    assert [line[:15].strip() for line in lines[1:4]] == ["right image", "wrong images", "no image"]
