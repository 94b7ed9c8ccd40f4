"""The quickstart's comparison of attention: the measure, and the whole program after its preparation."""

import importlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from caf_dkd_plugin.evaluation.image_reader import load_image_reader

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
STUDENTS = {"distilled": "student_distilled_1", "aligned": "student_aligned_1"}


@pytest.fixture(scope="module")
def script():
    """A function that imports one of the quickstart's scripts."""
    with mock.patch.object(sys, "path", [str(QUICKSTART), *sys.path]):
        yield importlib.import_module


@pytest.fixture(scope="module")
def mass(script):
    return script("attention_mass")


@pytest.fixture(scope="module")
def aligned(script):
    return script("aligned_attention")


# -- attention inside a box -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0.25, 0.5, 0.5, 0.75), {9: 1}),  # third row, second column
        ((0.25, 0.5, 0.375, 0.75), {9: 0.5}),
        ((0.375, 0.5, 0.625, 0.75), {9: 0.5, 10: 0.5}),
        ((0.125, 0.125, 0.25, 0.25), {0: 0.25}),
        ((0, 0, 1, 1), dict.fromkeys(range(16), 1)),
    ],
    ids=["a region", "half a region", "two halves", "a quarter", "the picture"],
)
def test_a_region_counts_by_its_share_inside_the_box(mass, box, inside):
    expected = [inside.get(region, 0) for region in range(16)]
    assert mass.covered(box, 4).tolist() == expected


@pytest.mark.parametrize("side", [2, 3, 7])
def test_shares_are_those_of_counted_points(mass, side):
    """Edges on a lattice, which the regions divide, so that its cells lie inside or outside."""
    cells = 12 * side
    for x0, y0, x1, y1 in ((1, 2, 9, 11), (side, 0, cells, 5), (7, 13, 23, 20)):
        lattice = np.zeros((cells, cells))
        lattice[y0:y1, x0:x1] = 1
        counted = lattice.reshape(side, 12, side, 12).mean(axis=(1, 3)).ravel()
        box = tuple(edge / cells for edge in (x0, y0, x1, y1))
        np.testing.assert_allclose(mass.covered(box, side), counted, atol=1e-12)


def test_attention_spread_evenly_has_the_area_of_the_box(mass):
    box = (0.11, 0.53, 0.42, 0.97)
    even = np.full(16, 1 / 16)
    assert even @ mass.covered(box, 4) == pytest.approx(0.31 * 0.44)


# -- the steps ------------------------------------------------------------------------------------


def test_students_of_a_seed_differ_in_the_alignment_only(aligned):
    commands = {
        step.name: step.command for step in aligned.aligned_steps("DEMO", aligned.SMOKE, [4, 7])
    }
    for seed in (4, 7):
        plain, other = (commands[f"student_{arm}_{seed}"] for arm in ("distilled", "aligned"))
        assert other.replace("aligned_", "distilled_") == f"{plain} --a2d-families fusion"
        assert f"--seed {seed} " in plain
    assert commands["report"].split("--aligned ")[1] == "student_aligned_4 student_aligned_7"


@pytest.mark.parametrize("smoke", [[], ["--smoke"]])
def test_students_have_as_many_pairs_as_are_asked_for(aligned, smoke):
    size = aligned.parse_args([*smoke, "--pairs", "50"]).size
    [data] = [
        one for one in aligned.aligned_steps("DEMO", size, [1]) if "50 pairs, the" in one.title
    ]
    assert "head -n 50 " in data.command
    assert aligned.parse_args(smoke).size == (aligned.SMOKE if smoke else aligned.ALIGNED_FULL)


def test_all_that_is_wrong_is_said_at_once(aligned, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["--pairs", "2401", "--seeds", "1", "2", "1", "--output", str(tmp_path / "file")]
    with pytest.raises(SystemExit):
        aligned.parse_args(words)
    said = capsys.readouterr().err
    assert "--pairs 2401: there are 1 to 2400, those of the teacher" in said
    assert "--seeds 1 2 1 has a seed twice" in said
    assert f"--output {tmp_path / 'file'} is no folder" in said


def test_students_without_a_counterpart_are_refused(mass, tmp_path, capsys):
    words = ["--demo", str(tmp_path), "--teacher", "t", "--distilled", "a", "b", "--aligned", "c"]
    with pytest.raises(SystemExit):
        mass.main(words)
    assert "--distilled names 2 models and --aligned 1" in capsys.readouterr().err


# -- the whole program ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(script, aligned, corpus, store, fairseq, commands, tmp_path_factory):
    """The program's folder and what it said; corpus and features were there, made small."""
    demo = tmp_path_factory.mktemp("aligned")
    shutil.copytree(corpus, demo / "corpus")
    shutil.copy(store, demo / "images.h5")
    (demo / "cnn.pt").touch()
    text, pieces, data = corpus / "text", demo / "pieces", demo / "data"
    script("subwords").split_corpus(text, pieces, vocab_size=120, student=None)
    prefixes = [f"--{split}pref={pieces / split}" for split in ("train", "valid", "test")]
    joint = ("-s", "en", "-t", "de", "--joined-dictionary")
    fairseq("preprocess", *joint, *prefixes, "--destdir", data / "student")
    for path in text.glob("*.images"):
        shutil.copy(path, data / "student")
    shutil.copytree(data / "student", data / "teacher")
    (demo / "done").mkdir()
    for step in aligned.preparation(str(demo), aligned.SMOKE, aligned.SEED):
        (demo / "done" / step.name).write_text(step.command)
    program = [commands / "python", QUICKSTART / "aligned_attention.py", "--smoke", "--seeds", "1"]
    done = subprocess.run([*program, "--output", demo], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return demo, done.stdout


def test_table_and_report_say_the_same(finished, mass):
    demo, said = finished
    report = json.loads((demo / "report.json").read_text())
    assert mass.table(report) in said
    assert report["arms"] == {
        "teacher": ["teacher_transformer"],
        **{arm: [model] for arm, model in STUDENTS.items()},
    }
    [row] = [
        line for line in said.splitlines() if line.startswith("| distilled, attention aligned, 64")
    ]
    model = report["models"]["student_aligned_1"]
    shown = [100 * model[name] for name in ("noun_on_object", "words_on_object", "sense_accuracy")]
    cells = row.strip("| ").split(" | ")
    assert cells[1:5] == [f"{value:.1f}" for value in (*shown, model["bleu"])]
    p = [report["p"][name][0] for name in ("noun_on_object", "sense_accuracy")]
    assert 0 < min(p) <= max(p) <= 1
    assert cells[5:] == [f"{value:.4f}" for value in p]


def overlap(one, other):
    """The area that two boxes have in common."""
    width, height = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    return max(width, 0) * max(height, 0)


@pytest.mark.parametrize("arm", STUDENTS)
def test_masses_are_those_of_the_models_own_maps(finished, arm):
    """All sentences in one mini-batch, region by region."""
    demo, _ = finished
    checkpoint = demo / "models" / STUDENTS[arm] / "checkpoint_best.pt"
    reader = load_image_reader(
        str(checkpoint), str(demo / "data" / "student"), str(demo / "images.h5"), cpu=True
    )
    reader.task.cfg.image_h5 = str(demo / "images.h5")
    reader.task.load_dataset("test")
    dataset = reader.task.dataset("test")
    batch = dataset.collater([dataset[number] for number in range(len(dataset))])
    with torch.no_grad():
        _, extra = reader.models[0](**batch["net_input"], need_maps=True)
    maps = dict(zip(batch["id"].tolist(), extra["maps"]["fusion"].mean(dim=1).tolist()))

    of_nouns, of_words = [], []
    senses = (demo / "corpus" / "text" / "test.senses").read_text().splitlines()
    for number, line in enumerate((demo / "pieces" / "test.en").read_text().splitlines()):
        noun, _, _, *box = senses[number].split("\t")
        box = [float(edge) for edge in box]
        words = []  # of each its pieces and their masses
        for piece, attention in zip(line.split(), maps[number]):
            if piece[0] in "▁.":
                words.append([])
            quarters = itertools.product((0, 0.5), (0, 0.5))  # top, left: 2 x 2 regions
            inside = [
                weight * overlap(box, (left, top, left + 0.5, top + 0.5)) / 0.25
                for weight, (top, left) in zip(attention, quarters)
            ]
            words[-1].append((piece, sum(inside)))
        masses = [statistics.fmean(mass for _, mass in word) for word in words]
        whole = ["".join(piece for piece, _ in word) for word in words]
        of_words.append(statistics.fmean(masses))
        of_nouns.append(masses[whole.index(f"▁{noun}")])
    found = json.loads((demo / "report.json").read_text())["models"][STUDENTS[arm]]
    assert found["noun_on_object"] == pytest.approx(statistics.fmean(of_nouns), abs=1e-5)
    assert found["words_on_object"] == pytest.approx(statistics.fmean(of_words), abs=1e-5)


def test_equal_students_do_not_differ_by_chance(finished, mass):
    demo, _ = finished
    same = [STUDENTS["distilled"]]
    report = mass.make_report(
        demo, {"teacher": ["teacher_transformer"], "distilled": same, "aligned": same}
    )
    assert report["p"] == {"noun_on_object": [1], "sense_accuracy": [1]}


def test_spread_of_several_seeds(mass):
    assert mass.spread([40.0]) == "40.0"
    assert mass.spread([39.0, 40.0, 41.0]) == "40.0 ± 1.0"
