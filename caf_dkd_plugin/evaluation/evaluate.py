"""Score the translations of one or more systems, each trained with several seeds, and compare them.

    python -m caf_dkd_plugin evaluate --references text/test.de --target-lang de \\
        --system text-only run1/test.generate run2/test.generate run3/test.generate \\
        --system caf-dkd a/test.generate b/test.generate c/test.generate

prints a table; with --json FILE also everything unrounded. A file is what fairseq-generate printed,
or plain text. N is the number of sentences.
"""

import argparse
import importlib.metadata
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tqdm import tqdm

from ..command_line import destination_problems
from ..problems import noted, print_problems
from ..whole_file import write_json
from .outputs import read_text, read_translations
from .scores import (
    REPORTED,
    TOKENISED,
    bootstrap_signature,
    language_problems,
    paired_bootstrap,
    score,
)

HEADINGS = {"bleu": "BLEU", "chrf": "chrF", TOKENISED: "tokenised BLEU"}


class System(NamedTuple):
    """A system's translations."""

    files: List[Path]
    """one a seed"""
    outputs: List[List[str]]
    """of each seed, N lines"""


def read_systems(args: argparse.Namespace) -> Tuple[List[List[str]], Dict[str, System]]:
    """The references, N lines each, and the systems by their names.

    Raises:
        ValueError: everything that is wrong with the command line or any of the files, one line each.
    """
    problems = _option_problems(args)
    references: Dict[Path, List[str]] = {}
    for path in args.references:
        with noted(problems):
            references[path] = read_text(path)
    lengths = {path: len(lines) for path, lines in references.items()}
    counts = set(lengths.values())
    if len(counts) > 1:
        numbers = ", ".join(f"{path} has {length} lines" for path, length in lengths.items())
        problems.append(f"the references are of different sentences: {numbers}")
    known = list(references.values()) if len(counts) == 1 else []
    systems = {}
    for name, *files in args.system:
        systems[name] = System([Path(file) for file in files], [])
        for path in systems[name].files:
            with noted(problems):
                systems[name].outputs.append(read_translations(path, known))
    if problems:
        raise ValueError("\n".join(problems))
    return known, systems


def _option_problems(args: argparse.Namespace) -> List[str]:
    problems = language_problems(args.target_lang)
    names = [name for name, *_ in args.system]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(
            f"--system {name} is given {names.count(name)} times: name all its files after one, or "
            "give the systems different names"
        )
    for name, *files in args.system:
        if Path(name).is_file():
            problems.append(
                f"--system {name} is a file, but first comes the system's name: --system NAME {name}"
            )
        if not files:
            problems.append(f"--system {name} names no file: give one for each seed")
        for file in sorted({file for file in files if files.count(file) > 1}):
            problems.append(f"--system {name} names {file} twice: each seed has a file of its own")
    if args.baseline not in (None, *names):
        problems.append(f"--baseline {args.baseline} is none of the systems: {', '.join(names)}")
    else:
        baseline = args.baseline or names[0]
        seeds = next(len(files) for name, *files in args.system if name == baseline)
        for name, *files in args.system:
            if len(files) != seeds and min(len(files), seeds) > 1:
                problems.append(
                    f"{name} has {len(files)} files, the baseline {baseline} has {seeds}: seed k is "
                    "compared with seed k, so give equally many, or one file to be compared with all"
                )
    if args.json is not None:
        problems += destination_problems("--json", args.json)
    return problems


def evaluate(
    references: List[List[str]], systems: Dict[str, System], lang: str, baseline: str
) -> Dict[str, Any]:
    """Scores of every system, and how each compares with the baseline.

    Args:
        references: one or more lists of N lines.
        systems: by their names; as many seeds as the baseline, or one against several.
        lang: code of the target language.
        baseline: a system's name.

    Returns:
        what --json writes, but for the references' files: `systems`, of each score the values of the
        seeds, their mean and sample standard deviation (None with one seed); `comparisons`, of each
        other system the difference of the means, and p for each seed; `signatures`; `versions`.
    """
    report: Dict[str, Any] = {"baseline": baseline, "systems": {}, "comparisons": {}}
    for name, system in systems.items():
        seeds = [score(output, references, lang) for output in system.outputs]
        scored = {metric: _summary([found[metric].value for found in seeds]) for metric in HEADINGS}
        report["systems"][name] = {"files": [str(path) for path in system.files], **scored}
        report["signatures"] = {metric: found.signature for metric, found in seeds[0].items()}
    report["signatures"]["bootstrap"] = bootstrap_signature()
    others = [name for name in systems if name != baseline]
    pairs = [(name, pair) for name in others for pair in _pairs(systems[baseline], systems[name])]
    for name in others:
        means = [report["systems"][one] for one in (baseline, name)]
        report["comparisons"][name] = {
            metric: {"difference": means[1][metric]["mean"] - means[0][metric]["mean"], "p": []}
            for metric in REPORTED
        }
    for name, pair in tqdm(pairs, desc="bootstrap", unit="pair", leave=False, disable=None):
        for metric, p in paired_bootstrap(*pair, references, lang).items():
            report["comparisons"][name][metric]["p"].append(p)
    report["versions"] = {
        package: importlib.metadata.version(package) for package in ("sacrebleu", "sacremoses")
    }
    return report


def _summary(values: List[float]) -> Dict[str, Any]:
    return {
        "values": values,
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def _pairs(baseline: System, system: System) -> List[Tuple[List[str], List[str]]]:
    """Seed k and seed k; or the one of a system that has no other, with each."""
    seeds = max(len(baseline.outputs), len(system.outputs))
    return [
        (baseline.outputs[k % len(baseline.outputs)], system.outputs[k % len(system.outputs)])
        for k in range(seeds)
    ]


def table(report: Dict[str, Any]) -> str:
    """The report for people."""
    systems, comparisons = report["systems"], report["comparisons"]
    rows = [["", "seeds", *HEADINGS.values()]]
    for name, found in systems.items():
        figures = [_in_words(found[metric]) for metric in HEADINGS]
        rows.append([name, str(len(found["files"])), *figures])
    text = [*_aligned(rows), "mean ± sample standard deviation over the seeds"]
    if comparisons:
        rows = [[f"against {report['baseline']}"]]
        for metric in REPORTED:
            rows[0] += [HEADINGS[metric], "p of each seed"]
        for name, found in comparisons.items():
            rows.append([name])
            for metric in REPORTED:
                p_values = "  ".join(f"{p:.3f}" for p in found[metric]["p"])
                rows[-1] += [f"{found[metric]['difference']:+.1f}", p_values]
        text += ["", *_aligned(rows)]
        text.append(
            "difference of the means; p of sacreBLEU's paired bootstrap, one for each seed: whether "
            "these two outputs differ by chance, not whether two ways of training do"
        )
    text.append("")
    signatures = report["signatures"]
    text += [f"{HEADINGS[metric]}: {signatures[metric]}" for metric in HEADINGS]
    text.append(
        "tokenised BLEU: lower-cased, with Moses' tokens, as in earlier papers; comparable with those "
        "only"
    )
    if comparisons:
        text.append(f"paired bootstrap: {signatures['bootstrap']}")
    return "\n".join(text)


def _in_words(figures: Dict[str, Any]) -> str:
    spread = "" if figures["sd"] is None else f" ± {figures['sd']:.1f}"
    return f"{figures['mean']:.1f}{spread}"


def _aligned(rows: List[List[str]]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["   ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin evaluate", description=__doc__.partition("\n\n")[0]
    )
    add = parser.add_argument
    add(
        "--references",
        metavar="FILE",
        type=Path,
        action="append",
        required=True,
        help="the translations of people, as written, one a line; again for another set of them",
    )
    add("--target-lang", metavar="LANG", required=True, help="such as de, for Moses' tokens")
    add(
        "--system",
        metavar=("NAME", "FILE"),
        nargs="+",
        action="append",
        required=True,
        help="a name and, for each seed, what fairseq-generate printed, or one translation a line",
    )
    add(
        "--baseline",
        metavar="NAME",
        help="what the others are compared with; the first if not given",
    )
    add("--json", metavar="FILE", type=Path, help="also write everything, unrounded")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    try:
        references, systems = read_systems(args)
    except ValueError as error:
        print_problems(error)
        return 1
    baseline = args.baseline or args.system[0][0]
    report = {
        "references": [str(path) for path in args.references],
        "target_lang": args.target_lang,
        "sentences": len(references[0]),
        **evaluate(references, systems, args.target_lang, baseline),
    }
    print(table(report))
    if args.json is not None:
        write_json(args.json, report)
    return 0
