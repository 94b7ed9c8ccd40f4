"""Learn subwords of both languages together and split the corpus into them.

    python examples/quickstart/subwords.py --text DIR --output OUT --vocab-size 500 --student 1000

learns OUT/sentencepiece.model from DIR/train.en and DIR/train.de, and writes OUT/SPLIT.en and .de:
pieces between spaces, as fairseq-preprocess wants them. The split `student` is the first pairs of
`train`: what there is of a language pair with few resources.
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

import sentencepiece


def split_corpus(text: Path, output: Path, vocab_size: int, student: Optional[int]) -> None:
    """Train the model and write the pieces; see the head of this file."""
    output.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        input=f"{text / 'train.en'},{text / 'train.de'}",
        model_prefix=str(output / "sentencepiece"),
        vocab_size=vocab_size,
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=1,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(output / "sentencepiece.model"))
    for lang in ("en", "de"):
        pieces = {}
        for split in ("train", "valid", "test"):
            lines = (text / f"{split}.{lang}").read_text(encoding="utf-8").splitlines()
            pieces[split] = [" ".join(model.encode(line, out_type=str)) for line in lines]
        if student is not None:
            pieces["student"] = pieces["train"][:student]
        for split, lines in pieces.items():
            path = output / f"{split}.{lang}"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{output}/{{{','.join(pieces)}}}.{{en,de}}: {model.get_piece_size()} pieces")


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder of the corpus's text")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--vocab-size", type=int, required=True, help="number of pieces")
    parser.add_argument("--student", type=int, help="pairs of the split `student`, if it is wanted")
    args = parser.parse_args(argv)
    split_corpus(args.text, args.output, args.vocab_size, args.student)


if __name__ == "__main__":
    main()
