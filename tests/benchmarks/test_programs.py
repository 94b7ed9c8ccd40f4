"""The programs themselves, at sizes at which their figures mean nothing."""

import importlib.util
import json
import math
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAMS = sorted(
    path.stem for path in FOLDER.glob("*.py") if "sys.exit(run_program(" in path.read_text()
)
CHEAP = (
    "training_text",
    "training_images",
    "training_live_teacher",
    "training_aligned",
    "generation",
    "image_reading",
    "scaling",
)


@pytest.fixture(scope="module")
def quick(benchmark):
    return benchmark("sizes").QUICK


@pytest.fixture
def run(benchmark):
    """benchmarks/run.py, under a name of its own: other folders have a run.py too."""
    benchmark("program")
    spec = importlib.util.spec_from_file_location("benchmarks_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CHEAP)
def test_rows_are_complete(benchmark, quick, tmp_path, name):
    rows = benchmark(name).measure(quick, tmp_path)
    assert rows
    for row in rows:
        assert all((row.question, row.ours_name, row.theirs_name, row.unit))
        for side in (row.ours, row.theirs, row.limit or row.ours):
            assert len(side) == quick.rounds
            assert all(math.isfinite(value) and value > 0 for value in side)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - set(CHEAP)))
def test_the_others_can_be_imported(benchmark, name):
    assert callable(benchmark(name).measure)


def test_run_knows_every_program(run):
    assert sorted(run.PROGRAMS) == PROGRAMS


# -- what a machine cannot answer -----------------------------------------------------------------


def test_a_processor_without_bf16_is_skipped(benchmark, quick, tmp_path, monkeypatch):
    program = benchmark("training_bf16")
    monkeypatch.setattr(program, "cpu_facts", lambda: [["flags", "fpu avx2"]])
    [skipped] = program.measure(quick, tmp_path)
    assert skipped.reason == "the processor has none of amx_bf16, avx512_bf16"


def test_a_machine_without_gpu_is_skipped(benchmark, quick, tmp_path, monkeypatch):
    program = benchmark("training_gpu")
    monkeypatch.setattr(program.torch.cuda, "is_available", lambda: False)
    [skipped] = program.measure(quick, tmp_path)
    assert skipped.reason == "there is no CUDA device"


def test_a_full_disk_is_skipped(benchmark, quick, tmp_path, monkeypatch):
    program = benchmark("resident_memory")
    usage = namedtuple("usage", "free")(10**9)
    monkeypatch.setattr(program.shutil, "disk_usage", lambda path: usage)
    [skipped] = program.measure(quick._replace(images=10**6), tmp_path)
    assert "1.0 GB free" in skipped.reason
    assert "0.1 GB" in skipped.reason
    assert not list(tmp_path.iterdir())


# -- all of them ----------------------------------------------------------------------------------


@pytest.fixture
def programs(run, tmp_path, monkeypatch):
    """Two stand-ins for programs: one that works and one that fails."""
    entry = {
        **{"question": "q", "ours_name": "o", "theirs_name": "t", "unit": "s", "note": ""},
        **{"ours": [1.0], "theirs": [2.0], "required": ["at least", 1.0], "limit": None},
    }
    entries = {"rows": [entry], "skipped": [{"question": "g", "reason": "none"}]}
    (tmp_path / "works.py").write_text(
        f"import pathlib, sys\npathlib.Path(sys.argv[2]).write_text({json.dumps(entries)!r})\n"
    )
    (tmp_path / "fails.py").write_text("raise SystemExit('no such thing')\n")
    monkeypatch.setattr(run, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(run, "PROGRAMS", ("works", "fails"))
    return tmp_path


def test_all_rows_are_in_one_table_and_one_file(run, programs, capsys):
    path = programs / "all.json"
    assert run.main(["works", "works", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("**not met**") == 2
    assert "g: not measured, none" in printed
    assert f"python {sys.version.split()[0]}" in printed
    written = json.loads(path.read_text())
    assert [row["compared"] for row in written["rows"]] == [0.5, 0.5]
    assert written["versions"]["python"] == sys.version.split()[0]


def test_a_program_that_fails_fails_the_run_and_hides_no_row(run, programs, capsys):
    assert run.main(["fails", "works", "--json", str(programs / "all.json")]) == 1
    said = capsys.readouterr()
    assert "fails failed:\nno such thing" in said.err
    assert "| q, s" in said.out
    [row] = json.loads((programs / "all.json").read_text())["rows"]
    assert row["question"] == "q"


def test_the_results_are_those_of_all_programs(run, programs, monkeypatch):
    monkeypatch.setattr(run, "RESULTS", programs / "results.json")
    assert run.main([]) == 1
    assert run.main(["works"]) == 0
    assert not run.RESULTS.exists()
    monkeypatch.setattr(run, "PROGRAMS", ("works",))
    assert run.main([]) == 0
    assert run.RESULTS.exists()


def test_a_plot_that_cannot_be_drawn_is_refused_before_measuring(tmp_path):
    program = f"""
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
sys.argv = ["scaling.py", "--plot", {str(tmp_path / "none" / "plot.svg")!r}]
sys.path.insert(0, {str(FOLDER)!r})
runpy.run_path({str(FOLDER / "scaling.py")!r}, run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "there is no folder" in ended.stderr
    assert "--plot needs matplotlib" in ended.stderr


def test_an_unknown_program_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run.main(["training_tpu"])
    assert "there is no training_tpu; choose from training_text" in capsys.readouterr().err
