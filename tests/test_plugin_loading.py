"""`--user-dir caf_dkd_plugin`, in processes of their own."""

import os
import shutil
import subprocess
import sys
from argparse import Namespace

import pytest
from fairseq import utils

import caf_dkd_plugin

SCRIPT = """
import sys
from argparse import Namespace
from fairseq import criterions, models, tasks, utils

for user_dir in {user_dirs!r}:
    utils.import_user_module(Namespace(user_dir=user_dir))
import caf_dkd_plugin
import caf_dkd_plugin.data.image_store
assert "multimodal_translation" in tasks.TASK_REGISTRY
for model, presets in (("rnn", ("tiny", "paper")), ("transformer", ("tiny", "base"))):
    for arch in (f"cross_modal_{{model}}", *(f"cross_modal_{{model}}_{{name}}" for name in presets)):
        assert arch in models.ARCH_MODEL_REGISTRY
assert "kd_label_smoothed_cross_entropy" in criterions.CRITERION_REGISTRY
print("heavy:", sorted({{"torchvision", "matplotlib", "sentencepiece"}} & set(sys.modules)))
"""


def run(arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_relative_folder_then_the_absolute_one_then_a_plain_import(root):
    script = SCRIPT.format(
        user_dirs=["caf_dkd_plugin", str(root / "caf_dkd_plugin"), "caf_dkd_plugin"]
    )
    assert run(["-c", script], root).stdout.splitlines()[-1] == "heavy: []"


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """A copy that is not installed. Where the plugin is, Python must be told not to look for it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("caf_dkd_plugin", "preprocess"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "sitecustomize.py").write_text(f"""import sys

class NotInstalled:
    def find_spec(name, path=None, target=None):
        if name == "caf_dkd_plugin" and {str(folder)!r} not in sys.path:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)

sys.path.remove({str(folder)!r})
sys.meta_path.insert(0, NotInstalled)
""")
    return folder


def test_an_absolute_folder_from_elsewhere(clone, tmp_path):
    """The plugin need not be installed: fairseq puts its parent on the path."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(["-c", "import caf_dkd_plugin"], tmp_path, PYTHONPATH=str(clone))
    assert "caf_dkd_plugin is not installed" in error.value.stderr
    script = SCRIPT.format(user_dirs=[str(clone / "caf_dkd_plugin")])
    script += "print(caf_dkd_plugin.__file__)"
    said = run(["-c", script], tmp_path, PYTHONPATH=str(clone)).stdout
    assert said.splitlines()[-1] == str(clone / "caf_dkd_plugin" / "__init__.py")


@pytest.mark.parametrize("name", ["cache_teacher", "extract_features"])
def test_a_script_finds_the_plugin_beside_it(clone, name, tmp_path):
    """Though it is not installed."""
    script = clone / "preprocess" / f"{name}.py"
    ended = run([str(script), "--help"], tmp_path, PYTHONPATH=str(clone))
    assert ended.stdout.startswith(f"usage: {name}.py")


def test_after_a_plain_import(root):
    """As in notebooks and in these tests."""
    utils.import_user_module(Namespace(user_dir=str(root / "caf_dkd_plugin")))
    utils.import_user_module(Namespace(user_dir=str(root / "caf_dkd_plugin")))
    assert caf_dkd_plugin.__version__


def test_the_module_prints_its_folder_and_nothing_else(root):
    ended = run(["-m", "caf_dkd_plugin"], root)
    assert (ended.stdout, ended.stderr) == (f"{root / 'caf_dkd_plugin'}\n", "")


def test_a_command_says_nothing_else(root, tmp_path):
    text = tmp_path / "text"
    text.write_text("Ein Hund bellt die Katze an.\n")
    words = f"evaluate --references {text} --target-lang de --system a {text}"
    ended = run(["-m", "caf_dkd_plugin", *words.split()], root)
    assert "100.0" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize("name", ["cache_teacher", "check_data", "mask_source", "prepare_multi30k"])
def test_a_script_says_nothing_else(root, name, tmp_path):
    """Those that import fairseq before the plugin, or after it."""
    ended = run([str(root / "preprocess" / f"{name}.py"), "--help"], tmp_path)
    assert ended.stdout.startswith(f"usage: {name}.py")
    assert ended.stderr == ""


def test_whoever_imports_the_plugin_keeps_fairseqs_logging(root):
    script = "import logging; import caf_dkd_plugin; print(logging.root.level < logging.WARNING)"
    assert run(["-c", script], root).stdout == "True\n"
