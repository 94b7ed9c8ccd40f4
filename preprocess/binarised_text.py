"""Binarise the sentences of all splits with fairseq-preprocess, and compare what came out."""

import shutil
from pathlib import Path
from typing import Dict, Sequence

import numpy as np
import sentencepiece
from fairseq import options
from fairseq.data import Dictionary, data_utils
from fairseq_cli import preprocess as fairseq_preprocess
from multi30k_release import Split
from preparation_error import PreparationError
from sentencepiece_model import write_pieces
from tqdm import tqdm


def binarise(
    folder: Path,
    splits: Sequence[Split],
    model: sentencepiece.SentencePieceProcessor,
    dictionaries: Dict[str, Path],
) -> None:
    """Write the pieces of all splits, run fairseq-preprocess on them, compare what came out.

    Args:
        folder: where the binarised data goes; the pieces go into a sub-folder and away again.
        splits: what to binarise; a split may lack the languages after the second.
        model: splits sentences into pieces.
        dictionaries: language: dictionary file; the source language, the target language, then
            those of which the same sentences are wanted besides.
    """
    source, target, *sides = dictionaries
    pair = f"{source}-{target}"
    pieces = folder / "pieces"
    pieces.mkdir()
    lengths = {
        (split.prefix, lang): write_pieces(pieces / f"{split.prefix}.{lang}", sentences, model)
        for split in tqdm(splits, desc="splitting into pieces", unit="split")
        for lang, sentences in split.text.items()
    }
    for languages in ([source, target], *([side] for side in sides)):
        prefixes = [split.prefix for split in splits if set(languages) <= set(split.text)]
        _preprocess(
            folder, pieces, prefixes, pair, {lang: dictionaries[lang] for lang in languages}
        )
    for (prefix, lang), expected in lengths.items():
        name = f"{prefix}.{pair}.{lang}"
        binarised = data_utils.load_indexed_dataset(str(folder / name))
        sizes = binarised.sizes  # a view of a file that is unmapped when `binarised` goes
        if not np.array_equal(sizes - 1, expected):  # each ends with </s>
            raise PreparationError(
                [
                    f"{name}: fairseq-preprocess made {len(sizes)} sentences of {sizes.sum()} tokens "
                    f"of {len(expected)} sentences of {expected.sum() + len(expected)}. Please "
                    "report this with the text."
                ]
            )
    shutil.rmtree(pieces)


def _preprocess(
    folder: Path, pieces: Path, prefixes: Sequence[str], pair: str, dictionaries: Dict[str, Path]
) -> None:
    """Run fairseq-preprocess on a pair, or on one language, and give its files the pair's names.

    fairseq takes the languages of a folder from the first file that it happens to see, so all files
    must name the same pair.
    """
    made = folder / "made"
    source, target = next(iter(dictionaries)), pair.split("-")[1]
    arguments = ["--source-lang", source, "--target-lang", target, "--destdir", str(made)]
    arguments += ["--srcdict", str(dictionaries[source])]
    if target in dictionaries:
        arguments += ["--tgtdict", str(dictionaries[target])]
    else:
        arguments += ["--only-source"]
    renames = {}  # fairseq-preprocess counts without gaps
    for kind in ("train", "valid", "test"):
        wanted = [prefix for prefix in prefixes if prefix.startswith(kind)]
        if wanted:
            arguments += [f"--{kind}pref", ",".join(str(pieces / prefix) for prefix in wanted)]
        renames.update((f"{kind}{n or ''}", prefix) for n, prefix in enumerate(wanted))
    known = fairseq_preprocess.logger.handlers[:]
    fairseq_preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    for handler in [one for one in fairseq_preprocess.logger.handlers if one not in known]:
        fairseq_preprocess.logger.removeHandler(handler)  # of preprocess.log, which goes below
        handler.close()
    for lang in dictionaries:
        (made / f"dict.{lang}.txt").rename(folder / f"dict.{lang}.txt")
        for name, prefix in renames.items():
            for suffix in ("bin", "idx"):
                path = made / f"{name}.{source}-{target}.{lang}.{suffix}"
                path.rename(folder / f"{prefix}.{pair}.{lang}.{suffix}")
    shutil.rmtree(made)


def count_unknown(folder: Path, prefix: str, pair: str, lang: str) -> int:
    """How many pieces of a binarised split are not in its dictionary."""
    dictionary = Dictionary.load(str(folder / f"dict.{lang}.txt"))
    sentences = data_utils.load_indexed_dataset(str(folder / f"{prefix}.{pair}.{lang}"))
    return sum(int((sentence == dictionary.unk()).sum()) for sentence in sentences)
