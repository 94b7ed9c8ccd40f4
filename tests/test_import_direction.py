"""Who may import whom (design: rooms), read from the syntax trees."""

import ast
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parent.parent / "caf_dkd_plugin"
MODULES = sorted(PLUGIN.rglob("*.py"))

# Of the plugin's rooms, the ones that a module may import from, besides its own.
ALLOWED = {
    "modules": set(),
    "models": {"bfloat16", "gpu_waits", "modules"},
    "criterions": {"distillation"},
    "tasks": {"checkpoints", "data", "distillation", "freed_memory", "learning_rates", "modules"},
    "distillation": {
        "checkpoints",
        "data",
        "gpu_waits",
        "problems",
    },  # the teacher is a checkpoint, and must agree
    "data": {"modules", "problems"},  # photographs are read by a backbone
    "evaluation": {
        "command_line",
        "data",
        "distillation",  # how far attention is from a teacher's has one home
        "problems",
        "trained_models",
        "whole_file",
    },
    "checkpoints": {"command_line", "data", "problems", "whole_file"},  # they compare dictionaries
}
NO_FAIRSEQ = [
    "modules/",
    "data/image_store.py",
    "data/image_store_writer.py",
    "data/image_ids.py",
    "data/pictures.py",
    "data/joined_stores.py",
    "data/image_format.py",
    "data/photographs.py",
    "data/feature_files.py",
    "data/feature_layouts.py",
    "distillation/losses.py",
    "distillation/divergences.py",
    "distillation/top_k.py",
    "distillation/blockwise_loss.py",
    "distillation/tail_shape.py",
    "data/stored_rows.py",
    "data/teacher_cache.py",
    "data/teacher_cache_writer.py",
    "data/unfinished_file.py",
    "freed_memory.py",
    "gpu_waits.py",
    "learning_rates.py",
    "problems.py",
    "whole_file.py",
    "checkpoints/",
    "evaluation/attention_plot.py",
    "evaluation/evaluate.py",
    "evaluation/outputs.py",
    "evaluation/scores.py",
]
NO_TORCH = [
    "data/image_store.py",
    "data/image_store_writer.py",
    "data/image_ids.py",
    "data/pictures.py",
    "data/joined_stores.py",
    "data/image_format.py",
    "data/feature_layouts.py",
    "data/stored_rows.py",
    "data/teacher_cache.py",
    "data/teacher_cache_writer.py",
    "data/unfinished_file.py",
]


def imports(path):
    """(dots, dotted name) of every import, wherever it stands; `from . import x` gives "x"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def packages(path):
    """The foreign top-level packages that a module imports."""
    return {name.split(".")[0] for dots, name in imports(path) if not dots}


def matching(prefixes):
    found = [path for path in MODULES if str(path.relative_to(PLUGIN)).startswith(tuple(prefixes))]
    assert found
    return found


def test_every_room_has_its_rule():
    assert {path.parent.name for path in PLUGIN.glob("*/__init__.py")} == set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGIN)))
def test_rooms_import_only_what_they_may(path):
    room, *inside = path.relative_to(PLUGIN).parts
    if room not in ALLOWED:
        return  # the package's own __init__ and the like
    out_of_room = len(inside) + 1  # dots that lead to the plugin's folder
    for dots, name in imports(path):
        if dots == out_of_room:
            assert name.split(".")[0] in ALLOWED[room]
        assert dots <= out_of_room


def test_imports_inside_are_relative():
    for path in MODULES:
        assert PLUGIN.name not in packages(path), path


def test_leaves_know_no_fairseq():
    for path in matching(NO_FAIRSEQ):
        assert not packages(path) & {"fairseq", "fairseq_cli", "omegaconf", "hydra"}, path


def test_the_store_knows_no_torch():
    for path in matching(NO_TORCH):
        assert "torch" not in packages(path), path


def test_rooms_that_fairseq_imports_hold_only_what_registers():
    for room in ("tasks", "models", "criterions"):
        for path in (PLUGIN / room).glob("[!_]*"):
            file = path / "__init__.py" if path.is_dir() else path
            assert f"@register_{room[:-1]}(" in file.read_text(), path
