"""Write down what a teacher says of a text, so that a student can learn without it.

    python preprocess/cache_teacher.py DATA --teacher-path CKPT --output FILE.h5

For each target token of the chosen splits the k most probable symbols are kept with their
log-probabilities, and of all others their mass and, in a few numbers, how it is distributed. Several
checkpoints, separated by colons, are averaged in probability. Killed and started again, the run goes on
where it was. Until it is finished the cache is called FILE.h5.partial.
"""

import argparse
import hashlib
import runpy
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

import numpy as np
import torch
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asked_teacher import Asking, Passage, Sample, check_lengths, load_passages

from caf_dkd_plugin.command_line import not_negative, positive, usable_device
from caf_dkd_plugin.data.dictionaries import symbols_sha256
from caf_dkd_plugin.data.image_ids import PathLike
from caf_dkd_plugin.data.joined_stores import Images
from caf_dkd_plugin.data.teacher_cache import (
    Stamp,
    TeacherCache,
    TeacherCacheError,
    Text,
)
from caf_dkd_plugin.data.teacher_cache_writer import TeacherCacheWriter
from caf_dkd_plugin.distillation.divergences import forward_kl
from caf_dkd_plugin.distillation.tail_shape import TailShape, fit_tail_shape
from caf_dkd_plugin.distillation.teacher import load_teacher
from caf_dkd_plugin.distillation.top_k import TAIL_TEMPERATURES, TopK, soften_top_k, top_k
from caf_dkd_plugin.tasks.multimodal_translation import MultimodalTranslationTask


def set_up_task(args: argparse.Namespace) -> MultimodalTranslationTask:
    """The task of the command line, with its dictionaries and image store."""
    chosen = {
        "--source-lang": args.source_lang,
        "--target-lang": args.target_lang,
        "--image-h5": args.image_h5,
        "--image-missing": args.image_missing,
        "--teacher-source-lang": args.teacher_source_lang,
    }
    words = [word for name, value in chosen.items() if value is not None for word in (name, value)]
    parser = options.get_validation_parser()
    task = ["--task", "multimodal_translation"]
    parsed = options.parse_args_and_arch(parser, input_args=[args.data, *task, *words])
    return tasks.setup_task(convert_namespace_to_omegaconf(parsed).task)


def fit_shape(asking: Asking, sample: Sample, rank: int) -> TailShape:
    """The shape of the tails."""
    log_probs, filled = torch.empty(sample.tokens, asking.symbols), 0
    for _, said in sample.said(asking, "sampling the teacher"):
        log_probs[filled : filled + len(said)] = said
        filled += len(said)
    return fit_tail_shape(log_probs, rank)


def divergence(asking: Asking, sample: Sample, cache: TeacherCache) -> List[float]:
    """(M,) KL(teacher || cache) in nats a token, at each of `TAIL_TEMPERATURES`."""
    shape = TailShape(torch.from_numpy(cache.tail_mean), torch.from_numpy(cache.tail_directions))
    texts = [text for passage in sample.passages for text in passage.texts]
    rows = np.concatenate([cache.first_line(text) + np.arange(text.lines) for text in texts])
    total = torch.zeros(len(TAIL_TEMPERATURES))
    for line, said in sample.said(asking, "comparing"):
        read = {
            name: torch.from_numpy(values[0])
            for name, values in cache.read([rows[line]], len(said)).items()
        }
        numbers = [read[name].float() for name in ("topk_log_probs", "tail_log_mass", "tail_code")]
        kept = TopK(read["topk_ids"], *numbers, shape)
        for place, temperature in enumerate(TAIL_TEMPERATURES):
            known = soften_top_k(kept, temperature, asking.symbols)
            teacher = (said.cpu() / temperature).log_softmax(dim=-1)
            total[place] += forward_kl(known, teacher).sum()
    return (total.clamp(min=0) / max(sample.tokens, 1)).tolist()


def print_divergence(asking: Asking, passages: Sequence[Passage], cache: TeacherCache) -> None:
    """Say how far a finished cache is from its teacher."""
    found = divergence(asking, Sample.of(passages, between=True), cache)
    far = ", ".join(f"{nats:.4f} at T = {at:g}" for nats, at in zip(found, TAIL_TEMPERATURES))
    print(f"divergence from the teacher, nats a token: {far}")


def no_shape(symbols: int) -> Tuple[np.ndarray, np.ndarray]:
    """Where all symbols are kept, nothing is left that could have one."""
    return np.zeros(symbols, dtype="float32"), np.zeros((0, symbols), dtype="float32")


def fill(writer: TeacherCacheWriter, passages: Sequence[Passage], asking: Asking, k: int) -> None:
    """Ask the teacher about every line that is not done."""
    done = writer.lines_done
    arrays = (writer.tail_mean, writer.tail_directions)
    shape = TailShape(*(torch.from_numpy(array).to(asking.device) for array in arrays))
    with tqdm(total=len(done), initial=int(done.sum()), unit="line", desc=writer.path.name) as bar:
        first = 0
        for pairs, texts in passages:
            for places in asking.batches(pairs, np.arange(len(pairs))):
                lines = first + np.asarray(places)
                if done[lines].all():
                    continue
                for place, said in asking.about(pairs, places):
                    kept = top_k(said, k, shape)
                    writer.write(
                        first + place,
                        topk_ids=kept.ids.cpu().numpy(),
                        topk_log_probs=kept.log_probs.cpu().numpy(),
                        tail_log_mass=kept.tail_log_mass.cpu().numpy(),
                        tail_code=kept.tail_code.cpu().numpy(),
                    )
                bar.update(int((~done[lines]).sum()))
            first += sum(text.lines for text in texts)


def cache(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done.

    Raises:
        ValueError: the data, the teacher or an earlier cache cannot be used.
    """
    started = time.monotonic()
    task = set_up_task(args)
    store = task.image_store()
    student = task.teaching.as_student(store)._replace(
        max_positions=(0, 0)
    )  # sentences are measured below
    teacher = load_teacher(args.teacher_path, args.teacher_data, student)
    if store is not None and not teacher.reads_images:
        raise ValueError(
            f"--image-h5 {args.image_h5}: the teacher {args.teacher_path} reads no images, so its cache "
            "is the same without. Leave --image-h5 out here; a student with images may learn from it."
        )
    symbols = len(task.target_dictionary)
    if args.topk > symbols:
        raise ValueError(f"--topk {args.topk} is more than the {symbols} symbols of the target")
    passages = load_passages(task, args.splits, student.source_lang, teacher.reads_images)
    check_lengths(passages, teacher.max_positions, args.max_tokens)
    texts = [text for passage in passages for text in passage.texts]
    rank = 0 if args.topk == symbols else min(args.tail_rank, symbols)  # there may be no tail
    stamp = Stamp(
        teachers=tuple(sha256(path) for path in utils.split_paths(args.teacher_path)),
        source_lang=student.source_lang,
        source_symbols_sha256=symbols_sha256(student.source_dictionary),
        target_symbols_sha256=symbols_sha256(task.target_dictionary),
        images=seen_images(store) if teacher.reads_images else None,
        top_k=args.topk,
        tail_temperatures=TAIL_TEMPERATURES,
        tail_rank=rank,
    )
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    asking = Asking(teacher, task.target_dictionary.pad(), symbols, args.max_tokens, device)
    if args.output.exists() and not args.overwrite:
        print_divergence(asking, passages, accept_finished(args.output, stamp, texts))
        return
    args.output.parent.mkdir(parents=True, exist_ok=True)
    lengths = np.concatenate([passage.lengths for passage in passages])
    writer = TeacherCacheWriter(
        args.output,
        texts,
        lengths,
        stamp,
        fit_shape=lambda: (
            no_shape(symbols)
            if args.topk == symbols
            else [part.numpy() for part in fit_shape(asking, Sample.of(passages), rank)]
        ),
        overwrite=args.overwrite,
    )
    missing = int((~writer.lines_done).sum())
    if missing < len(lengths):
        print(f"going on: {len(lengths) - missing} of {len(lengths)} lines are done")
    fill(writer, passages, asking, args.topk)
    writer.finish()
    print(
        f"wrote {args.output}: {len(lengths)} lines ({', '.join(text.name for text in texts)}), "
        f"{int(lengths.sum())} target tokens, the best {args.topk} of {symbols} symbols "
        f"and the others in {len(writer.tail_directions)} numbers, "
        f"{args.output.stat().st_size / 1e6:.1f} MB; {missing} lines in {time.monotonic() - started:.0f} s"
    )
    print_divergence(asking, passages, TeacherCache(args.output))


def seen_images(store: Images) -> Dict[str, str]:
    """The image store, as the stamp has it."""
    return {**asdict(store.description), "content_sha256": store.content_sha256()}


def accept_finished(path: Path, stamp: Stamp, texts: Sequence[Text]) -> TeacherCache:
    """Say that the finished cache is the one that is wanted, and give it.

    Raises:
        TeacherCacheError: it is of something else.
    """
    finished = TeacherCache(path)
    found = stamp.differences(finished.stamp)
    for text in texts:
        try:
            finished.first_line(text)
        except TeacherCacheError as error:
            found.append(str(error))
    if found:
        raise TeacherCacheError(
            f"{path} exists: {'; '.join(found)}. Write to another file, or replace this one with "
            "--overwrite."
        )
    print(f"{path} is already finished. Nothing to do.")
    return finished


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
    add(
        "--tail-rank",
        type=not_negative,
        default=128,
        help="numbers to keep, at most, of how the probability of all other symbols is distributed; as "
        "many as the teacher's last layer is wide say all of it",
    )
    add("--splits", nargs="+", default=["train"], help="what to read")
    add("--source-lang", help="if the folder does not tell")
    add("--target-lang", help="if the folder does not tell")
    add("--teacher-source-lang", metavar="LANG", help="what the teacher reads, as in training")
    add("--image-h5", metavar="FILE[:FILE...]", help="image store, for a teacher that reads images")
    add(
        "--image-missing",
        choices=("error", "mask"),
        help="what an image does that is not in the store, as in training",
    )
    add("--max-tokens", type=positive, default=4000, help="tokens in one pass")
    add(
        "--device",
        type=usable_device,
        help="where the teacher runs, such as cpu or cuda:1; the GPU if there is one",
    )
    add("--overwrite", action="store_true", help="replace a cache of something else")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        cache(parse_args(argv))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
