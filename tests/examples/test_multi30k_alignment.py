"""Arms of Align-to-Distill in the experiment: what they train from, refuse, and are compared with."""

import json

import pytest

ARMS = (
    "a2d",
    "kd-a2d",
    "caf-dkd-a2d",
    "transformer",
    "transformer-kd",
    "transformer-a2d",
    "transformer-kd-a2d",
)
ASKED = ("--sizes", "1k", "--teachers", "transformer-teacher")


@pytest.fixture(scope="module")
def finished(tiny_experiment, tmp_path_factory):
    """Three of the arms at 1k."""
    arms = ("a2d", "transformer", "transformer-kd-a2d")
    folder = tmp_path_factory.mktemp("alignment")
    experiment = tiny_experiment(folder, *ASKED, "--arms", *arms)
    code, _, errors = experiment.run()
    assert code == 0, errors
    return experiment


@pytest.fixture
def trainings(grid):
    """Of each arm the step that trains it."""
    steps = grid(*ASKED, "--arms", *ARMS, "--seeds", "1")
    return {arm: steps[f"1k_{arm}_seed1.train"] for arm in ARMS}


# -- the program ----------------------------------------------------------------------------------


def test_aligned_students_learn_where_the_teacher_looks(finished):
    for arm, families in (("a2d", ["cross"]), ("transformer-kd-a2d", ["cross", "encoder_self"])):
        log = finished.log(f"1k_{arm}_seed1.train")
        for family in ("cross", "encoder_self", "decoder_self", "fusion"):
            assert (f'"train_a2d_{family}": ' in log) == (family in families)
        assert ('"train_kd_loss": ' in log) == ("kd" in arm)
        assert set(finished.result(f"1k_{arm}_seed1")["teacher"]["models"]) == {
            "transformer-teacher_seed1"
        }
    assert finished.result("1k_transformer_seed1")["teacher"] is None


def test_transformers_are_compared_with_transformers(finished, script):
    entries = json.loads((finished.results / "comparisons.json").read_text())
    assert [(one["baseline"], one["system"]) for one in entries] == [
        ("transformer", "transformer-kd-a2d")
    ]
    table = script("results_table")
    results, comparisons = script("tabulate_results").read_results(finished.results)
    found = {
        row.arm: table.significance(row, "test_2016_flickr", comparisons)
        for row in table.rows(results)
        if not table.is_teacher(row.runs[0])
    }
    assert found.pop("transformer-kd-a2d") == f"{entries[0]['bleu']['p']:.3f}"
    assert found == {"a2d": "-", "transformer": ""}


def test_every_arm_is_in_the_table_and_compared_with_what_it_is_made_of(script):
    arms = script("experiment_grid").ARMS
    assert set(script("results_table").NAMES) == set(arms)
    compared = script("run_results").COMPARED
    for kind, plain in (("", "text"), ("transformer-", "transformer")):
        for system in ("a2d", "kd-a2d"):
            assert (plain, f"{kind}{system}") in compared
        assert (f"{kind}kd", f"{kind}kd-a2d") in compared
    assert {name for pair in compared for name in pair} == set(arms)


# -- the grid -------------------------------------------------------------------------------------


def test_aligned_arms_have_a_live_teacher(trainings):
    for arm, step in trainings.items():
        aligned = arm.endswith("a2d")
        assert ("--a2d-families" in step.command) == aligned
        assert ("--teacher-path" in step.command) == aligned
        assert ("--teacher-cache" in step.command) == (arm == "transformer-kd")
        assert ("transformer-teacher_seed1.train" in step.needs) == aligned
        assert ("cache.1k" in step.needs) == (arm == "transformer-kd")


def test_alignment_alone_leaves_the_probabilities_out(trainings, script):
    value_of = script("option_files").value_of
    for arm, step in trainings.items():
        words = step.command.split()
        taught = arm not in ("transformer",)
        assert (value_of(words, "--criterion") == "kd_label_smoothed_cross_entropy") == taught
        assert (value_of(words, "--kd-lambda") == "1") == (arm in ("a2d", "transformer-a2d"))
        student = "cross_modal_transformer_tiny" if "transformer" in arm else "cross_modal_rnn_tiny"
        assert value_of(words, "--arch") == student


def test_aligned_students_with_images_go_on_from_those_without(trainings):
    step = trainings["caf-dkd-a2d"]
    assert "--image-h5" in step.command
    assert '--init-from "$WORK/models/1k_kd-a2d_seed1/training/checkpoint_best.pt"' in step.command
    assert "1k_kd-a2d_seed1.train" in step.needs


def test_a_teacher_with_images_cannot_be_asked_without(problems):
    [problem] = problems("--sizes", "1k", "--arms", "a2d", "kd-a2d")
    assert "--teachers teacher looks at images" in problem
    assert "but --arms a2d kd-a2d ask them without any" in problem
    assert problems("--sizes", "1k", "--arms", "kd-a2d", "--teachers", "reader") == []


def test_a_size_without_options_for_transformers_is_refused(problems):
    [problem] = problems("--sizes", "5k", "--arms", "transformer-kd")
    assert "transformer-5k.options cannot be read: there is no such file" in problem
    assert "nearest to it are transformer-1k.options" in problem
