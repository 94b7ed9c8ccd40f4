"""Read and check everything that prepare_multi30k.py is given, before it writes anything."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set

from fairseq.data import Dictionary
from finished_folder import own_input_problems
from multi30k_release import (
    LANGUAGES,
    Split,
    find_layout,
    in_languages,
    read_pictures,
    read_splits,
    read_subset,
    take,
)
from preparation_error import PreparationError
from sentencepiece_model import MODEL, load_model

ROLES = ("source", "target", "teacher_source")
"""The options that say the languages of the folder"""


class Inputs(NamedTuple):
    """All that was read and found good, before anything is written."""

    splits: List[Split]
    left_out: List[str]
    """in words"""
    pictures: Optional[Set[str]]
    """names of files; None where there is no folder of them"""
    model: Optional[bytes]
    dictionaries: Dict[str, Optional[bytes]]
    """of each language of the folder: source, target, teacher's source"""
    training_text: Dict[str, List[str]]
    """language: what a model is trained on"""

    @property
    def languages(self) -> List[str]:
        """Source, target and, where there is one, the teacher's source."""
        return list(self.dictionaries)

    def sha256(self) -> str:
        """Over everything that the output depends on."""
        content = [[split.name, split.text, split.image_ids] for split in self.splits]
        digest = hashlib.sha256(json.dumps(content).encode())
        for part in (self.model, *self.dictionaries.values()):
            digest.update(b"-" if part is None else hashlib.sha256(part).digest())
        others = {
            lang: text for lang, text in self.training_text.items() if lang not in self.languages
        }
        if others:
            digest.update(json.dumps(others).encode())
        return digest.hexdigest()


def roles(args: argparse.Namespace) -> Dict[str, str]:
    """The folder's languages; the teacher's source only where it is asked for."""
    chosen = {role: getattr(args, role) for role in ROLES}
    return {role: lang for role, lang in chosen.items() if lang}


def dictionary_option(role: str) -> str:
    """The option that gives the dictionary of a language, as it is typed."""
    return f"--{role.replace('_', '-')}-dictionary"


def training_languages(args: argparse.Namespace) -> List[str]:
    """The languages that the sentencepiece model is trained on, the folder's first."""
    own = list(roles(args).values())
    chosen = args.sentencepiece_languages or own
    return [lang for lang in dict.fromkeys([*own, *LANGUAGES]) if lang in chosen]


def option_problems(args: argparse.Namespace) -> List[str]:
    """What is wrong with the options, whatever is in the files."""
    found = []
    if args.source == args.target:
        found.append(f"--source and --target are both {args.source}")
    for role in ("source", "target"):
        if getattr(args, role) == args.teacher_source:
            found.append(
                f"--teacher-source and --{role} are both {args.teacher_source}; it is for a third "
                "language, the folder has this one anyway"
            )
    left_out = [lang for lang in roles(args).values() if lang not in training_languages(args)]
    if left_out:
        found.append(
            f"--sentencepiece-languages leaves out {' and '.join(left_out)}, of which the folder has "
            "sentences; name them too, or most of their pieces would be unknown"
        )
    if args.sentencepiece and args.sentencepiece_languages:
        found.append(
            "--sentencepiece-languages says what to train a model on, and --sentencepiece gives one "
            "that is trained; leave one of them out"
        )
    if args.teacher_source_dictionary and not args.teacher_source:
        found.append("--teacher-source-dictionary is of no use without --teacher-source; give both")
    for role in ROLES:
        if getattr(args, f"{role}_dictionary") and not args.sentencepiece:
            found.append(
                f"{dictionary_option(role)} goes with the sentencepiece model that made its pieces; "
                f"give that as --sentencepiece (it lies beside the dictionary, as {MODEL})"
            )
    return found


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Read and check everything that the command line names.

    Raises:
        PreparationError: all that is wrong.
    """
    problems = option_problems(args)

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except PreparationError as error:
            problems.extend(error.problems)
            return None

    languages, trained = roles(args), training_languages(args)
    source, target, *sides = languages.values()
    read = attempt(read_splits, args.root, [source, target], sides, trained)
    splits, left_out = read or ([], [])
    if read:
        problems += own_input_problems(args.output, [find_layout(args.root).text])
    pictures = attempt(read_pictures, args.root) if read else None
    if args.subset and splits:
        chosen = attempt(read_subset, args.subset, len(splits[0]))
        splits[0] = take(splits[0], chosen or [])
    model = args.sentencepiece and attempt(_read_file, "--sentencepiece", args.sentencepiece)
    if model:
        attempt(load_model, model, f"--sentencepiece {args.sentencepiece}")
    dictionaries = {}
    for role, lang in languages.items():
        path = getattr(args, f"{role}_dictionary")
        dictionaries[lang] = path and attempt(_read_dictionary, dictionary_option(role), path)
    if problems:
        raise PreparationError(problems)
    training_text = {lang: splits[0].text[lang] for lang in trained}
    splits[0] = in_languages(splits[0], dictionaries)
    return Inputs(splits, left_out, pictures, model, dictionaries, training_text)


def _read_file(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PreparationError([f"{option} {path} cannot be read: {error.strerror}"]) from error


def _read_dictionary(option: str, path: Path) -> bytes:
    content = _read_file(option, path)
    try:
        Dictionary.load(str(path))
    except Exception as error:  # fairseq wraps what int() raises, or lets it through
        raise PreparationError([f"{option} {path} is not a fairseq dictionary: {error}"]) from error
    return content
