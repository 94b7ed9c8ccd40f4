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
TOP = {
    "__init__.py": {
        *("broadcast_classes", "checkpoints", "criterions", "models", "quiet_start", "tasks"),
        "translator",
    },
    "trained_models.py": {"checkpoints"},
    "translator.py": {"data", "distillation", "tasks", "trained_models"},
}
"""the same of the modules that are in no room; what is not named here imports nothing of ours"""

FAIRSEQ = {"fairseq", "fairseq_cli", "hydra", "omegaconf"}
MAY_KNOW_FAIRSEQ = ("criterions/", "models/", "tasks/")
KNOW_FAIRSEQ = {
    "broadcast_classes.py",
    "data/complete_dataset.py",
    "data/dictionaries.py",
    "data/image_list.py",
    "data/multimodal_dataset.py",
    "data/split_files.py",
    "data/taught_dataset.py",
    "data/teacher_source.py",
    "distillation/teacher.py",
    "evaluation/beam_search.py",
    "evaluation/commute.py",
    "evaluation/compare_attention.py",
    "evaluation/image_awareness.py",
    "evaluation/image_reader.py",
    "trained_models.py",
    "translator.py",
}
"""of all other modules; the rest are leaves that can be read, tested and used without it"""
NO_TORCH = [
    "data/contiguous_hdf5.py",
    "data/feature_layouts.py",
    "data/files_below.py",
    "data/image_format.py",
    "data/image_ids.py",
    "data/image_store.py",
    "data/image_store_writer.py",
    "data/joined_stores.py",
    "data/one_writer.py",
    "data/pictures.py",
    "data/split_images.py",
    "data/stored_rows.py",
    "data/teacher_cache.py",
    "data/teacher_cache_writer.py",
    "data/unfinished_file.py",
]


def named(path):
    """A module as the lists above name it."""
    return path.relative_to(PLUGIN).as_posix()


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


def test_every_room_has_its_rule():
    assert {path.parent.name for path in PLUGIN.glob("*/__init__.py")} == set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_rooms_import_only_what_they_may(path):
    room, *inside = path.relative_to(PLUGIN).parts
    allowed = ALLOWED[room] if inside else TOP.get(room, set())
    out_of_room = len(inside) + 1  # dots that lead to the plugin's folder
    for dots, name in imports(path):
        if dots == out_of_room:
            assert name.split(".")[0] in allowed
        assert dots <= out_of_room


def test_no_rule_is_out_of_use():
    used = {}
    for path in MODULES:
        room, *inside = path.relative_to(PLUGIN).parts
        found = {name.split(".")[0] for dots, name in imports(path) if dots == len(inside) + 1}
        used.setdefault(room, set()).update(found)
    assert {room: used[room] for room in (*ALLOWED, *TOP)} == {**ALLOWED, **TOP}


def test_imports_inside_are_relative():
    for path in MODULES:
        assert PLUGIN.name not in packages(path), path


def test_leaves_know_no_fairseq():
    found = {named(path) for path in MODULES if packages(path) & FAIRSEQ}
    assert {name for name in found if not name.startswith(MAY_KNOW_FAIRSEQ)} == KNOW_FAIRSEQ


@pytest.mark.parametrize("name", NO_TORCH)
def test_stores_and_caches_know_no_torch(name):
    assert "torch" not in packages(PLUGIN / name)


def test_rooms_that_fairseq_imports_hold_only_what_registers():
    for room in ("tasks", "models", "criterions"):
        for path in (PLUGIN / room).glob("[!_]*"):
            file = path / "__init__.py" if path.is_dir() else path
            assert f"@register_{room[:-1]}(" in file.read_text(), path
