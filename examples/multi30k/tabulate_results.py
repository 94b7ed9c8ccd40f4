"""Make the table and the plots of the experiment's results.

    python examples/multi30k/tabulate_results.py --results DIR

reads DIR/*.json, which experiment.py has written, and writes DIR/table.md, DIR/bleu_over_size.svg and
DIR/learning_curves.svg. The same results give the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from experiment_grid import ARMS
from results_table import (
    COMPARISONS,
    current,
    is_result,
    is_teacher,
    markdown,
    mixture_problems,
)

COMMAND = "python examples/multi30k/experiment.py --root $MULTI30K_ROOT --image-h5 $IMAGE_H5"


def read_results(folder: Path) -> Tuple[List[dict], List[dict]]:
    """The JSONs of the models, and the comparisons of their translations.

    Raises:
        ValueError: there are no results of students, files cannot be read or are something else, or the
            seeds of a row were not trained alike.
    """
    results, comparisons, problems = [], [], []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            problems.append(f"{path} is no JSON: {error}")
            continue
        if path.name == COMPARISONS:
            comparisons = content
        elif is_result(content) and (is_teacher(content) or content["arm"] in ARMS):
            results.append(content)
        elif is_result(content):
            problems.append(f"{path}: experiment.py has no arm {content['arm']}")
        else:
            problems.append(
                f"{path} is no result of experiment.py: it does not say of which model it is, and "
                "with which scores. Keep it in another folder."
            )
    if problems:
        raise ValueError("\n".join(problems))
    if all(map(is_teacher, results)):
        raise ValueError(
            f"{folder} has {len(results)} JSONs of models, and none of a student; "
            "examples/multi30k/experiment.py writes them"
        )
    problems = mixture_problems(results)
    if problems:
        raise ValueError("\n".join(problems))
    return results, current(comparisons, results)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--results",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of the JSONs that experiment.py has written",
    )
    folder = parser.parse_args(argv).results
    try:
        results, comparisons = read_results(folder)
    except ValueError as error:
        for problem in str(error).splitlines():
            print(f"error: {problem}", file=sys.stderr)
        return 1
    table = markdown(results, comparisons, COMMAND)
    (folder / "table.md").write_text(table, encoding="utf-8")
    try:
        from results_plots import DRAWN, bleu_over_size, learning_curves, save
    except ModuleNotFoundError as error:
        print(
            f"error: wrote {folder}/table.md, but no plots: there is no {error.name}. "
            "pip install matplotlib",
            file=sys.stderr,
        )
        return 1
    if not any(result["arm"] in DRAWN for result in results):
        print(f"wrote {folder}/table.md; the plots are of {', '.join(DRAWN)}, and none is there")
        return 0
    save(bleu_over_size(results), folder / "bleu_over_size.svg")
    save(learning_curves(results), folder / "learning_curves.svg")
    print(f"wrote {folder}/{{table.md,bleu_over_size.svg,learning_curves.svg}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
