"""The experiment's results as a Markdown table."""

import re
import statistics
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from experiment_grid import ARMS, SIZES, TEST_SETS
from training_machine import machine_differences

BASELINE = "text"
COMPARISONS = "comparisons.json"
"""the file of what is significant, beside the JSONs of the models"""
NAMES = {
    "text": "text only",
    "image": "+ image",
    "kd": "+ distillation",
    "caf-dkd": "both (CAF-DKD)",
    "text-substituted": "text only + substituted sources",
    "kd-substituted": "+ distillation + substituted sources",
    "text-untranslated": "text only + untranslated sources",
    "kd-untranslated": "+ distillation + untranslated sources",
    "lstm": "fairseq's lstm, text only",
    "a2d": "+ alignment",
    "kd-a2d": "+ distillation + alignment",
    "caf-dkd-a2d": "both (CAF-DKD) + alignment",
    "transformer": "Transformer, text only",
    "transformer-kd": "Transformer + distillation",
    "transformer-a2d": "Transformer + alignment",
    "transformer-kd-a2d": "Transformer + distillation + alignment",
}
"""of the arms, for people"""


class Row(NamedTuple):
    """All seeds of one arm at one size."""

    size: str
    arm: str
    runs: List[dict]
    """their JSONs, by seed"""

    def values(self, test_set: str, metric: str) -> List[float]:
        """Of each seed that was scored on it."""
        scores = [run["scores"].get(test_set) for run in self.runs]
        return [found[metric]["value"] for found in scores if found]


def rows(results: Sequence[dict]) -> List[Row]:
    """The rows of the table: teachers first, then by size and arm."""
    found: Dict[Tuple[str, str], List[dict]] = {}
    for result in results:
        arm = result["name"].rpartition("_seed")[0] if is_teacher(result) else result["arm"]
        found.setdefault((result["size"], arm), []).append(result)

    made = [Row(*key, sorted(runs, key=lambda r: r["seed"])) for key, runs in found.items()]
    arms = list(ARMS)
    return sorted(
        made,
        key=lambda row: (
            (0, 0, 0, row.arm)
            if is_teacher(row.runs[0])
            else (1, list(SIZES).index(row.size), arms.index(row.arm), "")
        ),
    )


def is_result(content: object) -> bool:
    """Whether a JSON is of a model."""
    return isinstance(content, dict) and {"name", "size", "arm", "seed", "scores"} <= set(content)


def is_teacher(result: dict) -> bool:
    """Whether a JSON is a teacher's."""
    return result["arm"] == "teacher"


def has_input_feeding(result: dict) -> bool:
    """Whether a model's decoder reads its last result, which those of the other sizes do not."""
    return "--decoder-input-feeding" in _training(result)


def validated_on(result: dict) -> str:
    """fairseq's name of the split that a model's validation BLEU is of; JSONs of earlier versions say it
    in their commands only."""
    said = re.findall(r"--valid-subset (\S+)", _training(result))
    return result.get("validated_on") or (said[-1] if said else "valid").split(",")[0]


def current(comparisons: Sequence[dict], results: Sequence[dict]) -> List[dict]:
    """Those comparisons that are of the very translations of the results.

    A model may have been trained again with other settings since it was compared.

    Args:
        comparisons: entries of comparisons.json.
        results: JSONs of models.
    """
    hashes = {
        (one["size"], one["seed"], one["arm"], name): scores["hypotheses_sha256"]
        for one in results
        for name, scores in one["scores"].items()
    }

    def both(entry: dict) -> List[Optional[str]]:
        return [
            hashes.get((entry["size"], entry["seed"], entry[which], entry["test_set"]))
            for which in ("baseline", "system")
        ]

    return [entry for entry in comparisons if entry["hypotheses_sha256"] == both(entry)]


def mixture_problems(results: Sequence[dict]) -> List[str]:
    """Which rows would average seeds that were not trained alike."""
    problems = []
    for row in rows(results):
        first, *others = row.runs
        for run in others:
            unequal = [pair for pair in zip(_recipe(first), _recipe(run)) if len(set(pair)) > 1]
            if unequal or len(_recipe(first)) != len(_recipe(run)):
                one, other = unequal[0] if unequal else ("fewer commands", "more")
                problems.append(
                    f"{first['name']} and {run['name']} are not of one experiment: {one!r} became "
                    f"{other!r}. Train them alike (experiment.py --redo), or tabulate them apart."
                )
    return problems


def machine_mixtures(results: Sequence[dict]) -> List[str]:
    """Which rows average seeds of other versions or devices, for people."""
    found = []
    for row in rows(results):
        first, *others = row.runs
        for run in others:
            differences = machine_differences(first, run)
            if differences:
                found.append(f"from {first['name']} to {run['name']} {', '.join(differences)}")
    return found


def _recipe(run: dict) -> List[str]:
    """What a run was made by and from, line by line, but for its name and its seed."""
    commands = run["commands"]
    for name in filter(None, (run["name"], run.get("origin"))):
        commands = [
            command.replace(name, "NAME").replace(f"--seed {run['seed']} ", "")
            if name in command
            else command
            for command in commands
        ]
    lines = [line.strip(" \\") for command in commands for line in command.splitlines()]
    return [f"{run['pairs']} pairs", f"features {run['features']}", *lines]


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation of several."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def significance(row: Row, test_set: str, comparisons: Sequence[dict]) -> str:
    """p of the difference in BLEU from the baseline of the same seed, one for each seed.

    It is of both directions: the pair may have been compared the other way round.
    """
    if is_teacher(row.runs[0]):
        return ""
    baseline = ARMS[row.arm].student or BASELINE
    if row.arm == baseline:
        return ""
    wanted = {"size": row.size, "test_set": test_set}
    found: Dict[int, float] = {
        entry["seed"]: entry["bleu"]["p"]
        for entry in comparisons
        if all(entry[key] == value for key, value in wanted.items())
        and {entry["system"], entry["baseline"]} == {row.arm, baseline}
    }
    return ", ".join(probability(found.get(run["seed"])) for run in row.runs)


def pairs(result: dict) -> str:
    """For people: the real ones, and the synthetic ones if there are any."""
    synthetic = result.get("synthetic_pairs")
    return f"{result['pairs']:,}" + (f" + {synthetic:,}" if synthetic else "")


def probability(p: Optional[float]) -> str:
    """For people."""
    return "-" if p is None else f"{p:.3f}"


def markdown(results: Sequence[dict], comparisons: Sequence[dict], command: str) -> str:
    """The whole table, with what is to be known about it.

    Args:
        results: JSONs of models.
        comparisons: entries of comparisons.json.
        command: the program that gives a row, to which the options in its last column are added.
    """
    shown = [name for name in TEST_SETS if any(name in one["scores"] for one in results)]
    columns = ["size", "pairs", "arm", "seeds"]
    for name in shown:
        columns += [f"BLEU, {name}", f"chrF, {name}", f"p against {BASELINE}, {name}"]
    columns += ["tokenised BLEU", "parameters", "minutes", "command"]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in rows(results):
        teacher = is_teacher(row.runs[0])
        cells = ["" if teacher else row.size, pairs(row.runs[0])]
        cells += [row.arm if teacher else NAMES[row.arm], str(len(row.runs))]
        for name in shown:
            cells += [spread(row.values(name, metric)) for metric in ("bleu", "chrf")]
            cells.append(significance(row, name, comparisons))
        cells.append(" / ".join(spread(row.values(name, "tokenised_bleu")) for name in shown))
        cells.append(f"{row.runs[0]['parameters'] / 1e6:.1f} M")
        cells.append(spread([run["minutes"] for run in row.runs]))
        seeds = " ".join(str(run["seed"]) for run in row.runs)
        cells.append(f"`{row.runs[0]['asked']} --seeds {seeds}`" if not teacher else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(results, command)]) + "\n"


def _notes(results: Sequence[dict], command: str) -> List[str]:
    notes = [
        f"Each row: `{command}` with the options in its last column; a teacher comes with its students. "
        "Mean ± standard deviation over "
        "the seeds; p: sacreBLEU's paired bootstrap against the text-only student of the same kind, size "
        "and seed. Tokenised BLEU (lower-cased, Moses) is for comparison with earlier papers only."
    ]
    extra = any(result.get("synthetic_pairs") for result in results)
    going_on = any(result.get("origin") for result in results)
    for what, values in (
        ("Input feeding, which no other cross_modal_rnn here has", _fed(results)),
        ("Pairs after a +", ["the teachers' translations of extra sources"] if extra else []),
        (
            "Minutes with images",
            ["of going on from the student without, seed by seed"] if going_on else [],
        ),
        ("BLEU", _signatures(results, "bleu")),
        ("chrF", _signatures(results, "chrf")),
        ("tokenised BLEU", _signatures(results, "tokenised_bleu")),
        ("Features", sorted({_features(r) for r in results if r["features"]})),
        ("Device", sorted({r["device"] for r in results})),
        ("Subwords", sorted({f"{r['vocabulary']:,} pieces" for r in results})),
        ("Versions", sorted({_versions(r) for r in results})),
        ("Seeds that were not trained on the same", machine_mixtures(results)),
    ):
        if values:
            notes += ["", f"{what}: {'; '.join(values)}."]
    return notes


def _fed(results: Sequence[dict]) -> List[str]:
    """Rows whose students have input feeding."""
    fed = []
    for result in results:
        if has_input_feeding(result) and not is_teacher(result):
            cells = " (with LSTM cells)" if "--rnn-cell lstm" in _training(result) else ""
            fed.append(f"{result['size']}, {NAMES[result['arm']]}{cells}")
    return list(dict.fromkeys(fed))


def _training(result: dict) -> str:
    """The command that trained a model; before it may be those of others."""
    *_, training = (one for one in result["commands"] if one.startswith("fairseq-train"))
    return training


def _signatures(results: Sequence[dict], metric: str) -> List[str]:
    scores = [one for result in results for one in result["scores"].values()]
    return sorted({f"`{one[metric]['signature']}`" for one in scores})


def _features(result: dict) -> str:
    features = result["features"]
    shape = " x ".join(map(str, features["shape"]))
    return f"{features.get('backbone', features['kind'])}, {shape}"


def _versions(result: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in result["versions"].items())
