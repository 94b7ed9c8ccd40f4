"""setup.py, constraints/ and the Makefile: what a newcomer meets before any of our code runs."""

import ast
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent

# Import name → name on PyPI, where the two differ. fairseq has two homes, one for each stack.
FAIRSEQ = {"fairseq", "fairseq-fixed"}
DISTRIBUTIONS = {
    "PIL": {"pillow"},
    "hydra": {"hydra-core"},
    "fairseq": FAIRSEQ,
    "fairseq_cli": FAIRSEQ,
}

TARGETS = [
    "help",
    "install",
    "demo",
    "test",
    "bench",
    "lint",
    "format",
    "clean",
    "distclean",
    "find-python",
]

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(scope="module")
def metadata():
    """What setup.py hands to setuptools."""
    captured = {}
    original, setuptools.setup = setuptools.setup, lambda **kwargs: captured.update(kwargs)
    directory = Path.cwd()
    try:
        os.chdir(ROOT)  # find_packages looks where it is run, as pip runs it
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
        os.chdir(directory)
    return captured


def wanted(lines, python_version):
    """Requirements among `lines` that hold on `python_version`, by name."""
    requirements = [Requirement(line) for line in lines]
    return {
        canonicalize_name(r.name): r
        for r in requirements
        if r.marker is None or r.marker.evaluate({"python_version": python_version})
    }


def third_party_imports(folder):
    """Top-level modules imported under `folder`, less the standard library and what is ours."""
    found = {}
    # Scripts import the plugin and their neighbours; tests and benchmarks import scripts.
    rooms = ("preprocess", "examples", "tests/support")
    scripts = [p for room in rooms for p in (ROOT / room).rglob("*.py")]
    for path in sorted(folder.rglob("*.py")):
        ours = {"caf_dkd_plugin", *(p.stem for p in [*scripts, *path.parent.glob("*.py")])}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in (name.split(".")[0] for name in names):
                if name not in ours and name not in sys.stdlib_module_names:
                    found.setdefault(name, path.relative_to(ROOT))
    return found


# --- setup.py -------------------------------------------------------------------------------------


def test_the_version_is_written_once(metadata):
    import caf_dkd_plugin

    assert metadata["version"] == caf_dkd_plugin.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{metadata['version']}]" in changelog


def test_every_folder_with_code_is_packaged(metadata):
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "caf_dkd_plugin").rglob("*.py")
    }
    assert folders == set(metadata["packages"])  # one without an __init__.py would be left out


@pytest.mark.parametrize(
    ("python_version", "expected", "absent"),
    [
        ("3.10", {"fairseq": "<0.13,>=0.12.2", "numpy": "<1.24"}, "fairseq-fixed"),
        ("3.11", {"fairseq-fixed": ">=0.12.3.1"}, "fairseq"),
        ("3.12", {"fairseq-fixed": ">=0.12.3.1"}, "fairseq"),
    ],
)
def test_fairseq_is_chosen_by_the_python_version(metadata, python_version, expected, absent):
    requirements = wanted(metadata["install_requires"], python_version)
    for name, specifier in expected.items():
        assert str(requirements[name].specifier) == specifier
    assert absent not in requirements


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("caf_dkd_plugin", ["plots"]),
        ("preprocess", []),
        ("examples", ["plots"]),
        ("benchmarks", ["dev", "plots"]),
        ("tests", ["dev", "plots"]),
    ],
)
def test_every_import_is_declared(metadata, folder, extras):
    lines = list(metadata["install_requires"])
    for extra in extras:
        lines += metadata["extras_require"][extra]
    if folder == "tests":
        lines.append("setuptools")  # pyproject.toml builds with it, and torch requires it
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    undeclared = {
        name: str(path)
        for name, path in third_party_imports(ROOT / folder).items()
        if not DISTRIBUTIONS.get(name, {canonicalize_name(name)}) & declared
    }
    assert not undeclared, f"imported, but not in setup.py: {undeclared}"


def pins_of(python_version):
    """What constraints/ has for a Python: name -> version."""
    path = ROOT / "constraints" / f"py{python_version.replace('.', '')}.txt"
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    pins = {}
    for requirement in map(Requirement, lines):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{path.name}: {requirement} is no exact version"
        assert "+" not in specifier.version, f"{path.name}: {requirement} is not on PyPI"
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


@pytest.mark.parametrize("python_version", ["3.10", "3.11"])
def test_constraints_pin_what_setup_asks_for(metadata, python_version):
    pins = pins_of(python_version)
    everything = metadata["install_requires"] + metadata["extras_require"]["dev"]
    for name, requirement in wanted(everything, python_version).items():
        assert name in pins, f"{python_version}: {name} is not pinned"
        assert requirement.specifier.contains(pins[name]), f"{python_version}: {name} out of range"


def test_pip_of_python_310_takes_the_metadata_of_omegaconf_2_0():
    assert Version(pins_of("3.10")["pip"]) < Version("24.1")


def test_readme_names_the_versions_that_are_tested():
    table = re.findall(
        r"^\| Linux, CPU[^|]*\| (3\.\d+) \| (fairseq\S*) (\S+) \| (\S+) \| (\S+) \| (\S+) \|$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [row[0] for row in table] == ["3.11", "3.12", "3.10"]
    for python_version, fairseq, *versions in table:
        pins = pins_of("3.10" if python_version == "3.10" else "3.11")  # as the Makefile does
        names = (fairseq, "torch", "torchvision", "numpy")
        assert versions == [pins[name] for name in names], python_version


# --- Makefile -------------------------------------------------------------------------------------


SETTINGS = {"VENV", "PYTHON", "PYTHON_VERSIONS", "DEMO_ARGS", "PYTEST_ARGS", "BENCH_ARGS"}
"""the Makefile's"""


def make(*arguments, env=None, directory=ROOT):
    # These tests may run under `make test VENV=...`, and make hands such settings down.
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS")) and name not in SETTINGS
    }
    command = [shutil.which("make"), *arguments]
    return subprocess.run(
        command, cwd=directory, env={**clean, **(env or {})}, capture_output=True, text=True
    )


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_exist(target, tmp_path):
    result = make("-n", target, f"VENV={tmp_path / 'venv'}")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "venv").exists()


@needs_make
def test_make_alone_says_what_there_is():
    result = make()
    assert result.returncode == 0
    for target in ("demo", "test", "bench", "lint", "format", "install", "clean", "distclean"):
        assert f"make {target}" in result.stdout


@pytest.fixture
def project(tmp_path):
    """A stand-in for a clone: the real Makefile, and a Python whose venv and pip cost nothing.

    The file `fail` makes its pip fail; `log` has a line for each call of it.
    """
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "setup.py").touch()
    (tmp_path / "constraints").mkdir()
    for name in ("py310.txt", "py311.txt"):
        (tmp_path / "constraints" / name).touch()
    python = tmp_path / "fake-python"
    python.write_text(f"""#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
"-m pip") echo "$@" >> '{tmp_path}/log'; ! test -e '{tmp_path}/fail' ;;
"-m pytest") echo tests ran ;;
*) case "$2" in *get_path*) echo '{tmp_path}' ;; *) exec '{sys.executable}' "$@" ;; esac ;;
esac
""")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "Python.h").touch()
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.symlink_to("/bin/sh")
    return tmp_path


def make_in(project, *arguments, **env):
    path = {"PATH": f"{project / 'bin'}:{os.environ['PATH']}"}
    return make(
        f"PYTHON={project / 'fake-python'}", *arguments, env={**path, **env}, directory=project
    )


@needs_make
class TestSetUp:
    def test_once_and_then_again_when_setup_changes(self, project):
        first = make_in(project, "test")
        assert first.returncode == 0, first.stderr
        assert "Setting up .venv" in first.stdout
        assert "tests ran" in first.stdout
        calls = (project / "log").read_text()
        assert "--editable .[dev]" in calls

        second = make_in(project, "test")
        assert "Setting up" not in second.stdout
        assert (project / "log").read_text() == calls  # no pip

        stamp = project / ".venv" / ".caf-dkd-installed"
        os.utime(stamp, (1, 1))  # older than setup.py
        (project / ".venv" / "kept").touch()
        third = make_in(project, "test")
        assert third.returncode == 0, third.stderr
        assert "up to date" in third.stdout
        assert (project / "log").read_text() != calls
        assert (project / ".venv" / "kept").exists()

    def test_an_installation_cut_short_is_started_again(self, project):
        (project / "fail").touch()
        assert make_in(project, "test").returncode != 0
        (project / ".venv" / "left over").touch()
        (project / "fail").unlink()
        result = make_in(project, "test")
        assert result.returncode == 0, result.stderr
        assert "cut short" in result.stdout
        assert not (project / ".venv" / "left over").exists()
        assert "Setting up" not in make_in(project, "test").stdout

    def test_an_environment_made_by_hand_is_used_and_never_removed(self, project):
        subprocess.run([project / "fake-python", "-m", "venv", project / ".venv"], check=True)
        (project / ".venv" / "mine").touch()
        (project / "fail").touch()
        assert make_in(project, "test").returncode != 0
        (project / "fail").unlink()
        assert make_in(project, "test").returncode == 0
        assert (project / ".venv" / "mine").exists()

    def test_a_folder_that_is_no_environment_is_left_alone(self, project):
        (project / "photos").mkdir()
        for target in ("install", "distclean"):
            result = make_in(project, target, "VENV=photos")
            assert result.returncode != 0
            assert "not a virtual environment" in result.stderr
        assert (project / "photos").exists()

    def test_without_python(self, project):
        result = make("install", "PYTHON=/nowhere/python3", directory=project)
        assert result.returncode != 0
        assert "PYTHON=/nowhere/python3 does not run" in result.stderr
        result = make("install", "PYTHON_VERSIONS=2.0", directory=project)
        assert result.returncode != 0
        assert "No Python of these versions was found: 2.0" in result.stderr
        assert not (project / ".venv").exists()

    def test_without_headers(self, project):
        (project / "Python.h").unlink()
        result = make_in(project, "install")
        assert result.returncode != 0
        assert "Python.h is missing" in result.stderr
        assert not (project / ".venv").exists()

    def test_without_a_compiler(self, project):
        tools = project / "tools"
        tools.mkdir()
        for name in ("sh", "mkdir", "rm", "cp", "touch", "dirname"):
            (tools / name).symlink_to(shutil.which(name))
        result = make_in(project, "install", PATH=str(tools))
        assert result.returncode != 0
        assert "No C++ compiler" in result.stderr
        assert not (project / ".venv").exists()

    def test_another_python_than_that_of_the_environment_is_refused(self, project):
        assert make_in(project, "install").returncode == 0
        other = project / "other-python"
        version = "3.10" if sys.version_info[:2] != (3, 10) else "3.11"
        other.write_text(f"#!/bin/sh\necho {version}\n")
        other.chmod(0o755)
        result = make("install", f"PYTHON={other}", directory=project)
        assert result.returncode != 0
        assert f"VENV=.venv{version}" in result.stderr
