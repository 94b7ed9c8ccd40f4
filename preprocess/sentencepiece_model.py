"""Train, load and list the sentencepiece model that splits sentences into pieces, and write these."""

import io
import math
from pathlib import Path
from typing import List, Sequence

import numpy as np
import sentencepiece
from preparation_error import PreparationError

MODEL = "sentencepiece.model"
"""Its name in a finished folder"""


def default_vocab_size(pairs: int) -> int:
    """36 times the root of the number of pairs: 1,100 for 1k, 3,600 for 10k, 6,100 for 29k."""
    return max(500, min(10_000, 100 * round(0.36 * math.sqrt(pairs))))


def single_spaced(sentence: str) -> str:
    """All white space as single spaces. fairseq would drop a piece that is another kind of it."""
    return " ".join(sentence.split())


def train_sentencepiece(sentences: Sequence[str], vocab_size: int) -> bytes:
    """A unigram model of at most `vocab_size` pieces; of fewer where the text has no more."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=map(single_spaced, sentences),
            model_writer=model,
            vocab_size=vocab_size,
            character_coverage=1.0,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise PreparationError(
            [
                f"sentencepiece cannot make {vocab_size} pieces of {len(sentences)} sentences: "
                f"{str(error).strip()} Choose another --vocab-size."
            ]
        ) from error
    return model.getvalue()


def load_model(proto: bytes, path: str) -> sentencepiece.SentencePieceProcessor:
    """A sentencepiece model from the bytes of its file."""
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError as error:
        raise PreparationError([f"{path} is not a sentencepiece model"]) from error


def write_pieces(
    path: Path, sentences: Sequence[str], model: sentencepiece.SentencePieceProcessor
) -> np.ndarray:
    """Write the pieces of N sentences, a sentence a line; how many each has, (N,)."""
    encoded = model.encode([single_spaced(sentence) for sentence in sentences], out_type=str)
    path.write_text("".join(" ".join(line) + "\n" for line in encoded), "utf-8", newline="\n")
    return np.array([len(line) for line in encoded])


def pieces_of(model: sentencepiece.SentencePieceProcessor) -> List[str]:
    """All pieces that text can be split into, in the model's order."""
    return [
        model.id_to_piece(index)
        for index in range(model.get_piece_size())
        if not (model.is_unknown(index) or model.is_control(index) or model.is_unused(index))
    ]
