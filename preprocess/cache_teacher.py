"""Write down what a teacher says of a text, so that a student can learn without it.

    python preprocess/cache_teacher.py DATA --teacher-path CKPT --output FILE.h5

For each target token of the chosen splits the k most probable symbols are kept, with their
log-probabilities and the mass of all others. Several checkpoints, separated by colons, are averaged in
probability. Killed and started again, the run goes on where it was. Until it is finished the cache is
called FILE.h5.partial.
"""

import argparse
import hashlib
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from fairseq import options, tasks, utils
from fairseq.data import FairseqDataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.command_line import positive
from caf_dkd_plugin.data.dictionaries import symbols_sha256
from caf_dkd_plugin.data.image_store import PathLike
from caf_dkd_plugin.data.taught_dataset import texts_of
from caf_dkd_plugin.data.teacher_cache import (
    Stamp,
    TeacherCache,
    TeacherCacheError,
    TeacherCacheWriter,
    Text,
)
from caf_dkd_plugin.distillation.teacher import FrozenTeacher, load_teacher
from caf_dkd_plugin.distillation.top_k import TAIL_TEMPERATURES, top_k
from caf_dkd_plugin.tasks.multimodal_translation import MultimodalTranslationTask
from caf_dkd_plugin.tasks.multimodal_translation.checks import split_files


class Passage(NamedTuple):
    """The sentences of a split of a folder, as they are read and as the cache knows them."""

    pairs: FairseqDataset
    texts: List[Text]

    @property
    def lengths(self) -> np.ndarray:
        """(L,) number of target tokens of each line."""
        return self.pairs.dataset.tgt_sizes


def set_up_task(args: argparse.Namespace) -> MultimodalTranslationTask:
    """The task of the command line, with its dictionaries and image store."""
    chosen = {
        "--source-lang": args.source_lang,
        "--target-lang": args.target_lang,
        "--image-h5": args.image_h5,
        "--image-missing": args.image_missing,
    }
    words = [word for name, value in chosen.items() if value is not None for word in (name, value)]
    parser = options.get_validation_parser()
    task = ["--task", "multimodal_translation"]
    parsed = options.parse_args_and_arch(parser, input_args=[args.data, *task, *words])
    return tasks.setup_task(convert_namespace_to_omegaconf(parsed).task)


def load_passages(
    task: MultimodalTranslationTask, splits: Sequence[str], with_images: bool
) -> List[Passage]:
    """The sentences of all splits; those of the training set from every folder of DATA."""
    found = []
    folders = utils.split_paths(task.cfg.data)
    for split in splits:
        training = split == task.cfg.train_subset
        for number, folder in enumerate(folders if training else folders[:1]):
            task.load_dataset(split, epoch=number + 1, combine=training)
            texts = texts_of(split_files(task.cfg, folder, training), split, with_images)
            found.append(Passage(task.dataset(split), texts))
    return found


@torch.no_grad()
def fill(
    writer: TeacherCacheWriter,
    passages: Sequence[Passage],
    teacher: FrozenTeacher,
    k: int,
    max_tokens: int,
    device: torch.device,
) -> None:
    """Ask the teacher about every line that is not done."""
    done = writer.lines_done
    pad = passages[0].pairs.dataset.tgt_dict.pad()
    with tqdm(total=len(done), initial=int(done.sum()), unit="line", desc=writer.path.name) as bar:
        first = 0
        for pairs, texts in passages:
            # The batches are the same in every run: what a line's neighbours are does not depend on
            # where an earlier one stopped, so neither does its last bit.
            order = np.lexsort((pairs.src.sizes, pairs.tgt.sizes))
            for places in pairs.batch_by_size(order, max_tokens=max_tokens):
                if done[first + np.asarray(places)].all():
                    continue
                batch = pairs.collater([pairs[place] for place in places])
                batch = utils.apply_to_sample(lambda x: x.to(device), batch)
                said = teacher.log_probs(batch["net_input"], torch.float32)  # (B, T, V)
                lengths = batch["target"].ne(pad).sum(dim=1).tolist()
                for row, place in enumerate(batch["id"].tolist()):
                    kept = top_k(said[row, : lengths[row]], k)
                    writer.write(
                        first + place,
                        topk_ids=kept.ids.cpu().numpy(),
                        topk_log_probs=kept.log_probs.cpu().numpy(),
                        tail_log_mass=kept.tail_log_mass.cpu().numpy(),
                    )
                bar.update(int((~done[first + np.asarray(places)]).sum()))
            first += sum(text.lines for text in texts)


def cache(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done.

    Raises:
        ValueError: the data, the teacher or an earlier cache cannot be used.
    """
    started = time.monotonic()
    task = set_up_task(args)
    store = task.image_store()
    teacher = load_teacher(args.teacher_path, args.teacher_data, task.as_student(store))
    symbols = len(task.target_dictionary)
    if args.topk > symbols:
        raise ValueError(f"--topk {args.topk} is more than the {symbols} symbols of the target")
    passages = load_passages(task, args.splits, teacher.reads_images)
    texts = [text for passage in passages for text in passage.texts]
    stamp = Stamp(
        teachers=tuple(sha256(path) for path in utils.split_paths(args.teacher_path)),
        source_symbols_sha256=symbols_sha256(task.source_dictionary),
        target_symbols_sha256=symbols_sha256(task.target_dictionary),
        images=asdict(store.description) if teacher.reads_images else None,
        top_k=args.topk,
        tail_temperatures=TAIL_TEMPERATURES,
    )
    if args.output.exists() and not args.overwrite:
        accept_finished(args.output, stamp, texts)
        return
    args.output.parent.mkdir(parents=True, exist_ok=True)
    lengths = np.concatenate([passage.lengths for passage in passages])
    writer = TeacherCacheWriter(args.output, texts, lengths, stamp)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    missing = int((~writer.lines_done).sum())
    if missing < len(lengths):
        print(f"going on: {len(lengths) - missing} of {len(lengths)} lines are done")
    fill(writer, passages, teacher, args.topk, args.max_tokens, device)
    writer.finish()
    print(
        f"wrote {args.output}: {len(lengths)} lines ({', '.join(text.name for text in texts)}), "
        f"{int(lengths.sum())} target tokens, the best {args.topk} of {symbols} symbols, "
        f"{args.output.stat().st_size / 1e6:.1f} MB; {missing} lines in "
        f"{time.monotonic() - started:.0f} s"
    )


def accept_finished(path: Path, stamp: Stamp, texts: Sequence[Text]) -> None:
    """Say that the finished cache is the one that is wanted.

    Raises:
        TeacherCacheError: it is of something else.
    """
    finished = TeacherCache(path)
    found = stamp.differences(finished.stamp)
    if found:
        raise TeacherCacheError(
            f"{path} exists and has {'; '.join(found)}. Write to another file, or replace this one "
            "with --overwrite."
        )
    for text in texts:
        finished.first_line(text)
    print(f"{path} is already finished. Nothing to do.")


def sha256(path: PathLike) -> str:
    """Of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="folder made by fairseq-preprocess, or several (A:B)")
    add("--teacher-path", metavar="CKPT[:CKPT...]", required=True, help="the teacher or teachers")
    add("--teacher-data", metavar="DIR", help="its dictionaries, if not where its checkpoint says")
    add("--output", metavar="FILE", type=Path, required=True, help="the cache to write")
    add("--topk", type=positive, default=8, help="symbols to keep of each token")
    add("--splits", nargs="+", default=["train"], help="what to read")
    add("--source-lang", help="if the folder does not tell")
    add("--target-lang", help="if the folder does not tell")
    add("--image-h5", metavar="FILE[:FILE...]", help="image store, for a teacher that reads images")
    add(
        "--image-missing",
        choices=("error", "mask"),
        help="what an image does that is not in the store, as in training",
    )
    add("--max-tokens", type=positive, default=4000, help="tokens in one pass")
    add("--device", help="where the teacher runs, such as cpu or cuda:1 (default: GPU if any)")
    add("--overwrite", action="store_true", help="replace a cache of something else")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        cache(parse_args(argv))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    logging.root.setLevel(logging.WARNING)  # fairseq's import turns it up, one fork even to DEBUG
    sys.exit(main())
