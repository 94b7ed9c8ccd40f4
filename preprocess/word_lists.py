"""Read lists of words in several languages, such as those in the folder word_lists/.

The first line names the languages, each further line has one concept: in each column, separated by
tabs, all forms that a language has for it, separated by spaces.

    en            de
    red reds      rot rote rotem roten roter rotes
    boy boys      Junge Jungen Jungs

A form in small letters is for words with and without a capital, one with a capital only for those
with: "Junge" is not for "junge". For text in lower case, write a list in lower case.
"""

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from multi30k_release import read_lines
from preparation_error import PreparationError

from caf_dkd_plugin.evaluation.masked_words import WORD, spellings

FOLDER = Path(__file__).resolve().parent / "word_lists"

Concept = Dict[str, Tuple[str, ...]]
"""language: forms"""


def shipped_lists() -> Dict[str, Path]:
    """The lists of this repository by their names."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.tsv"))}


def read_word_lists(paths: Sequence[Path], languages: Sequence[str]) -> List[Concept]:
    """The concepts of all lists together.

    Raises:
        PreparationError: all that is wrong with the files, each with its line: other columns than
            the first line names, an empty cell, a form that is no single word, a form that is there
            twice in a language, also in two files; a list lacks one of `languages`.
    """
    concepts, problems = [], []
    places: Dict[Tuple[str, str], str] = {}
    for path in paths:
        try:
            header, *rows = [line.split("\t") for line in read_lines(path)] or [[]]
        except PreparationError as error:
            problems += error.problems
            continue
        lacking = [lang for lang in languages if lang not in header]
        if lacking:
            problems.append(
                f"{path} has no column {' and no column '.join(lacking)}; its first line names "
                f"{', '.join(header) or 'none'}"
            )
        if not rows:
            problems.append(f"{path} has no words below its first line")
        for number, row in enumerate(rows, 2):
            where = f"{path}, line {number}"
            if len(row) != len(header):
                problems.append(
                    f"{where}: {len(row)} columns, but the first line names {len(header)}; they are "
                    "separated by tabs"
                )
                continue
            concept = {lang: tuple(cell.split()) for lang, cell in zip(header, row)}
            problems += _problems(concept, where, places)
            concepts.append(concept)
    if problems:
        raise PreparationError(problems)
    return concepts


def _problems(concept: Concept, where: str, places: Dict[Tuple[str, str], str]) -> List[str]:
    """What is wrong with a concept; `places` says where each form of a language was seen first."""
    found = []
    for lang, forms in concept.items():
        if not forms:
            found.append(f"{where}: no {lang} word")
        for form in forms:
            if not WORD.fullmatch(form):
                found.append(
                    f"{where}: {form!r} is no single word; in a text a hyphen or an apostrophe ends a "
                    "word, so nothing would match it"
                )
                continue
            keys = [(lang, spelling) for spelling in spellings(form)]
            first = next((places[key] for key in keys if key in places), None)
            if first:
                found.append(f"{where}: the {lang} word {form!r} is there already, in {first}")
            places.update(dict.fromkeys(keys, where))
    return found
