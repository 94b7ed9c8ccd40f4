"""What is kept of the experiment: one JSON a model, and one with the comparisons between arms.

``NAME.json``: what it was (size, pairs, arm, seed, commands, teacher, features), on what it was trained
(versions, device), and what came out (scores of each test set with their signatures, validation BLEU of
each epoch and on which split, updates, minutes). Nothing in it depends on the machine's paths.
"""

import hashlib
import json
import os
import platform
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Mapping, Optional

import torch
from experiment_grid import ARMS, TRANSFORMER, Model
from experiment_inputs import Inputs
from experiment_progress import first_subset
from extra_sources import SUBSTITUTED
from results_table import COMPARISONS, current, is_result
from step_commands import TARGET
from step_runner import StepRunner, command_difference
from training_log import read_training_log

import caf_dkd_plugin
from caf_dkd_plugin.evaluation.outputs import read_generate_output
from caf_dkd_plugin.evaluation.scores import REPORTED, paired_bootstrap, score
from caf_dkd_plugin.whole_file import write_json

COMPARED = (
    *(("text", "image"), ("text", "kd"), ("text", "caf-dkd")),
    *(("kd", "caf-dkd"), ("image", "caf-dkd")),
    *(("text", "text-substituted"), ("text", "kd-substituted")),
    *(("kd", "kd-substituted"), ("text-substituted", "kd-substituted")),
    *(("text", "text-untranslated"), ("text", "kd-untranslated")),
    *(("kd", "kd-untranslated"), ("text-untranslated", "kd-untranslated")),
    ("lstm", "text"),
    *(("text", "a2d"), ("text", "kd-a2d"), ("kd", "kd-a2d"), ("text", "caf-dkd-a2d")),
    *(("caf-dkd", "caf-dkd-a2d"), ("kd-a2d", "caf-dkd-a2d")),
    *((TRANSFORMER, "transformer-kd"), (TRANSFORMER, "transformer-a2d")),
    *((TRANSFORMER, "transformer-kd-a2d"), ("transformer-kd", "transformer-kd-a2d")),
)
"""baseline, system"""
SCORING = ("sacrebleu", "sacremoses")
"""whose versions in a JSON are those that scored, all others those that trained"""
LONGEST_DIFFERENCE = 500
"""characters"""


class Results:
    """Writes the results of finished models.

    Args:
        folder: where the JSONs go.
        inputs: the grid and what it is made from.
        runner: has trained and translated.
    """

    def __init__(self, folder: Path, inputs: Inputs, runner: StepRunner):
        self._folder, self._inputs, self._runner = folder, inputs, runner

    def path(self, model: Model) -> Path:
        """Of a model's JSON."""
        return self._folder / f"{model.name}.json"

    def other_settings(self) -> List[str]:
        """Which JSONs of the grid's models would be written over by models of other settings."""
        found: Dict[str, List[str]] = {}
        for model in self._inputs.grid.models:
            result = read_result(self.path(model))
            if result and result.get("settings_sha256") != self._settings(model):
                difference = self._unlike(result, model)
                found.setdefault(difference, []).append(self.path(model).name)
        return [
            f"{self._folder} has results of other settings, {', '.join(names)}: {difference}"
            for difference, names in found.items()
        ]

    def is_complete(self, model: Model) -> bool:
        """Whether all its steps are finished."""
        return all(map(self._runner.is_finished, model.steps(list(self._inputs.grid.test_sets))))

    def is_written(self, model: Model) -> bool:
        """Whether its JSON is there and of this very run, with what is known of its teachers by now."""
        found = read_result(self.path(model))
        if found is None or found["settings_sha256"] != self._settings(model):
            return False
        if found["teacher"] != self._teacher(model):
            return False
        hashes = {name: scores["hypotheses_sha256"] for name, scores in found["scores"].items()}
        return hashes == {name: self._sha256(model, name) for name in self._inputs.grid.test_sets}

    def write(self, model: Model) -> Dict[str, object]:
        """Score a complete model and write its JSON."""
        runner, grid = self._runner, self._inputs.grid
        self._folder.mkdir(parents=True, exist_ok=True)
        machine = runner.begun_on(model.training)
        scoring = {name: runner.machine["versions"][name] for name in SCORING}
        log = read_training_log(runner.log(model.training), first_subset(model))
        record = {
            "name": model.name,
            "size": model.size,
            "pairs": self._inputs.pairs[model.size],
            "synthetic_pairs": model.extra.pairs_made(runner.folder) if model.extra else None,
            "arm": "teacher" if model.is_teacher else model.arm,
            "seed": model.seed,
            "asked": self._asked(model),
            "origin": model.origin.name if model.origin else None,
            "teacher": self._teacher(model),
            "features": self._features() if model.images else None,
            "vocabulary": grid.vocabulary,
            "commands": self._commands(model),
            "settings_sha256": self._settings(model),
            "versions": {**machine["versions"], **scoring},
            "device": machine["device"],
            "parameters": log.parameters,
            "updates": log.updates,
            "epochs": int(log.epochs),
            "best_epoch": log.best_epoch,
            "minutes": round(runner.seconds(model.training) / 60, 1),
            "scores": {name: self._scores(model, name) for name in grid.test_sets},
            "validated_on": first_subset(model),
            "validation_bleu": [[epoch, bleu] for epoch, bleu in log.validation_bleu.items()],
        }
        write_json(self.path(model), record)
        return record

    def compare(self) -> None:
        """Write what is significant between the arms of one size and seed.

        What is known stays, as long as the JSONs are of the translations that were compared.
        """
        found, new = self._current(self._written_comparisons()), {}
        models = {(m.size, m.seed, m.arm): m for m in self._inputs.grid.students}
        for size, seed in dict.fromkeys((m.size, m.seed) for m in self._inputs.grid.students):
            for baseline, system in COMPARED:
                pair = [models.get((size, seed, arm)) for arm in (baseline, system)]
                if None in pair or not all(map(self.is_complete, pair)):
                    continue
                for name in self._inputs.grid.test_sets:
                    hashes = [self._sha256(model, name) for model in pair]
                    entry = {
                        "size": size,
                        "seed": seed,
                        "test_set": name,
                        "baseline": baseline,
                        "system": system,
                    }
                    if found.get(_key(entry), {}).get("hypotheses_sha256") == hashes:
                        continue
                    entry.update(self._difference(pair, name), hypotheses_sha256=hashes)
                    new[_key(entry)] = entry
        written = self._written_comparisons()  # another experiment may have written its own since
        found = {**self._current(written), **new}
        ordered = [found[key] for key in sorted(found)]
        if ordered != written:
            write_json(self._folder / COMPARISONS, ordered)

    def _written_comparisons(self) -> List[Dict[str, object]]:
        path = self._folder / COMPARISONS
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def _current(self, comparisons: List[Dict[str, object]]) -> Dict[tuple, Dict[str, object]]:
        """Those whose JSONs are of the translations that were compared, by what they compare."""
        there = map(read_result, self._folder.glob("*.json"))
        return {_key(entry): entry for entry in current(comparisons, [*filter(is_result, there)])}

    def _difference(self, pair: List[Model], name: str) -> Dict[str, object]:
        references = [self._references(name)]
        p = paired_bootstrap(*(self._hypotheses(model, name) for model in pair), references, TARGET)
        before, after = (read_result(self.path(model))["scores"][name] for model in pair)
        return {
            metric: {
                "difference": round(after[metric]["value"] - before[metric]["value"], 2),
                "p": round(p[metric], 4),
            }
            for metric in REPORTED
        }

    def _scores(self, model: Model, name: str) -> Dict[str, object]:
        references = self._references(name)
        scores = score(self._hypotheses(model, name), [references], TARGET)
        store = self._inputs.store
        ids = self._inputs.splits[name].image_ids or []
        looked = {"with_image": sum(i in store for i in ids)} if model.images else {}
        return {
            "lines": len(references),
            **looked,
            **{
                metric: {"value": round(found.value, 2), "signature": found.signature}
                for metric, found in scores.items()
            },
            "hypotheses_sha256": self._sha256(model, name),
        }

    def _references(self, name: str) -> List[str]:
        return self._inputs.splits[name].text[TARGET]

    def _hypotheses(self, model: Model, name: str) -> List[str]:
        path = self._runner.folder / model.translations(name)
        return read_generate_output(path, len(self._references(name)))

    def _sha256(self, model: Model, name: str) -> str:
        return hashlib.sha256("\n".join(self._hypotheses(model, name)).encode()).hexdigest()

    def _settings(self, model: Model) -> str:
        return self._runner.identity(model.steps(list(self._inputs.grid.test_sets))[-1])

    def _unlike(self, result: Mapping, model: Model) -> str:
        """What a JSON's model was made by and a model is not."""
        before, now = result.get("commands", []), self._commands(model)
        if len(before) != len(now):
            before, now = ["\n".join(before)], ["\n".join(now)]
        parts = dict.fromkeys(map(command_difference, before, now))
        difference = "; ".join(filter(None, parts)) or "made from other text, images or lines"
        return textwrap.shorten(difference, LONGEST_DIFFERENCE, placeholder=" ...")

    def _commands(self, model: Model) -> List[str]:
        """Everything that is needed for it, from the text on."""
        steps, wanted = self._runner.steps, {}

        def want(name: str) -> None:
            for need in steps[name].needs:
                want(need)
            wanted[name] = steps[name].command

        for name in model.steps(list(self._inputs.grid.test_sets)):
            want(name)
        return list(wanted.values())

    def _asked(self, model: Model) -> Optional[str]:
        """The options of experiment.py that give this student, but for the seed and the paths."""
        if model.is_teacher:
            return None
        grid = self._inputs.grid
        words = ["--sizes", model.size, "--arms", model.arm, "--vocab-size", str(grid.vocabulary)]
        if model.extra and model.extra.kind == SUBSTITUTED:
            words += ["--copies", str(grid.copies)]
        words += ["--bf16"] if "--bf16" in model.options else []
        if ARMS[model.arm].is_taught:
            words += ["--teachers", *(f"{one.arm}:{one.seed}" for one in grid.teachers)]
            words += ["--teacher-subset", f"without-{grid.unseen}" if grid.unseen else "all"]
        return " ".join([*words, *self._inputs.asked])

    def _teacher(self, model: Model) -> Optional[Dict[str, object]]:
        if model.is_teacher or not ARMS[model.arm].is_taught:
            return None
        teachers = self._inputs.grid.teachers
        models = {}
        for teacher in teachers:
            found = read_result(self.path(teacher))
            its_own = found and found.get("settings_sha256") == self._settings(teacher)
            scores = found["scores"] if its_own else {}
            bleu = {name: one["bleu"]["value"] for name, one in scores.items()}
            models[teacher.name] = {"images": teacher.images, "bleu": bleu}
        size = teachers[0].size
        return {"trained_on": size, "pairs": self._inputs.pairs[size], "models": models}

    def _features(self) -> Dict[str, object]:
        store = self._inputs.store
        description = {key: value for key, value in vars(store.description).items() if value}
        return {**description, "kind": store.kind, "images": len(store), "shape": store.shape[1:]}


def read_result(path: Path) -> Optional[Dict]:
    """A model's JSON; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def present_machine(threads: Optional[str]) -> Dict[str, object]:
    """What the commands run with: what is written down of it.

    Args:
        threads: of each command, if that is settled.
    """
    return {"versions": versions(), "device": device(threads)}


def versions() -> Dict[str, str]:
    """Of what the figures may depend on."""
    fairseq = "fairseq" if sys.version_info < (3, 11) else "fairseq-fixed"
    names = ("torch", fairseq, "sacrebleu", "sacremoses", "sentencepiece")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "caf-dkd": caf_dkd_plugin.__version__}


def device(threads: Optional[str]) -> str:
    """What fairseq-train computes on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}), {threads or os.cpu_count()} threads"


def _key(entry: Mapping) -> tuple:
    return tuple(entry[key] for key in ("size", "seed", "test_set", "baseline", "system"))
