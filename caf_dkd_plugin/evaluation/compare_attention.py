"""Do models look where a teacher looks?

    python -m caf_dkd_plugin compare-attention DATA --teacher-path CKPT --path CKPT [CKPT ...]

Of each family of attention that a model and the teacher both have (cross, fusion, ...), over all queries
of a split, the real translations given: how far the mean of the model's heads is from the mean of the
teacher's, KL(teacher || model) in nats, and how often both attend most to the same key. So one sees what
aligned attention (Jin et al. 2024) has left to teach a student, and what it has taught.

Letters: B sentences, C attention maps of a family, X queries, K keys.
"""

import argparse
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask

from ..command_line import destination_problems, positive
from ..data.multimodal_dataset import MultimodalDataset
from ..data.split_images import NO_IMAGE
from ..distillation.aligners import row_divergence
from ..problems import noted
from ..trained_models import length_problems, load_models
from .measuring import tell

Attention = Dict[str, Tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""of each family the mean of its maps (B, X, K), its real queries (B, X) and keys (B, K)"""


class Model(NamedTuple):
    """A model in eval mode, and the sentences as it reads them."""

    path: str
    model: torch.nn.Module
    task: FairseqTask
    pairs: FairseqDataset
    device: torch.device

    @property
    def with_image(self) -> Optional[int]:
        """Number of the sentences whose image is in the store; None: it reads none."""
        if not isinstance(self.pairs, MultimodalDataset):
            return None
        return int((self.pairs.rows != NO_IMAGE).sum())

    def length_problems(self, max_tokens: int, name: str) -> List[str]:
        """What of its sentences is too long, one line each; `name` is what to call them."""
        sizes = self.pairs.sizes
        lines = np.arange(len(sizes))
        found = length_problems([self.model], self.task, sizes, lines, max_tokens, name)
        return [f"{self.path}: {line}" for line in found]

    @torch.no_grad()
    def attention(self, places: Sequence[int]) -> Attention:
        """To these sentences, in the order of their numbers."""
        batch = self.pairs.collater([self.pairs[place] for place in places])
        batch = utils.apply_to_sample(lambda x: x.to(self.device), batch)
        _, extra = self.model(**batch["net_input"], need_maps=True)
        order = batch["id"].argsort()
        return {
            family: (
                maps.float().mean(dim=1)[order],
                *(x[order] for x in extra["map_masks"][family]),
            )
            for family, maps in extra["maps"].items()
        }


def load(path: str, data: str, split: str, image_h5: Optional[str], device: torch.device) -> Model:
    """Load a model, and a split of DATA for it.

    Raises:
        ValueError: it cannot be used, is an ensemble, gives no maps, or needs images of which none is there.
    """
    models, task = load_models(path, data)
    if len(models) > 1:
        raise ValueError(f"{path} is {len(models)} models: compare one at a time")
    if not hasattr(models[0], "map_counts"):
        raise ValueError(
            f"{path} does not tell its attention: only a cross_modal_rnn and a cross_modal_transformer do"
        )
    if task.trained_images:
        if image_h5 is None:
            raise ValueError(f"{path} reads images: give their store with --image-h5")
        models, task = load_models(path, data, image_h5)
    task.load_dataset(split)
    loaded = Model(path, models[0].eval().to(device), task, task.dataset(split), device)
    if loaded.with_image == 0:
        raise ValueError(
            f"{path} reads images, and {image_h5} has that of none of the {len(loaded.pairs)} sentences of "
            f"{split}"
        )
    return loaded


def batches(pairs: FairseqDataset, max_tokens: int) -> Iterator[List[int]]:
    """All sentences, those of about the same length together."""
    order = np.lexsort(pairs.sizes.T)
    yield from pairs.batch_by_size(order, max_tokens=max_tokens)


def compare(teacher: Model, model: Model, max_tokens: int) -> Dict[str, Dict[str, Any]]:
    """Of each family that both have: ``nats`` and ``same_key`` of a query, and the number of ``queries``.

    A query counts where both sides have a key for it.

    Raises:
        ValueError: the two see other regions of the same images.
    """
    totals: Dict[str, np.ndarray] = {}
    for places in batches(model.pairs, max_tokens):
        theirs, ours = teacher.attention(places), model.attention(places)
        for family in theirs.keys() & ours.keys():
            (expected, rows, keys), (found, _, own_keys) = theirs[family], ours[family]
            if expected.shape != found.shape:
                raise ValueError(
                    f"{family}: {teacher.path} attends to {expected.size(2)} regions, {model.path} to "
                    f"{found.size(2)}; compare models that read the same store"
                )
            rows = rows & keys.any(dim=1, keepdim=True) & own_keys.any(dim=1, keepdim=True)
            far = row_divergence(found, expected)[rows]
            same = (expected.argmax(dim=2) == found.argmax(dim=2))[rows]
            figures = np.array([far.double().sum().item(), same.sum().item(), rows.sum().item()])
            totals[family] = totals.get(family, 0) + figures
    return {
        family: {"nats": nats / queries, "same_key": same / queries, "queries": int(queries)}
        for family, (nats, same, queries) in sorted(totals.items())
        if queries
    }


def measure(args: argparse.Namespace) -> Dict[str, Any]:
    """What the command line asks for.

    Raises:
        ValueError: what is wrong, one line each.
    """
    problems = [] if args.json is None else destination_problems("--json", args.json)
    device = torch.device("cpu" if args.cpu or not torch.cuda.is_available() else "cuda")
    loaded: List[Model] = []
    for path in (args.teacher_path, *args.path):
        with noted(problems):
            loaded.append(load(path, args.data, args.gen_subset, args.image_h5, device))
            problems += loaded[-1].length_problems(args.max_tokens, args.gen_subset)
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    teacher, *models = loaded
    return {
        "teacher": args.teacher_path,
        "data": args.data,
        "split": args.gen_subset,
        "sentences": len(teacher.pairs),
        "with_image": {model.path: model.with_image for model in loaded},
        "models": {model.path: compare(teacher, model, args.max_tokens) for model in models},
    }


def table(found: Dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{found['split']}: {found['sentences']:,} sentences"]
    seen = found["with_image"]
    for path in dict.fromkeys([found["teacher"], *found["models"]]):
        images = (
            "reads text only" if seen[path] is None else f"{seen[path]:,} of them with an image"
        )
        lines.append(f"{path}{' (the teacher)' if path == found['teacher'] else ''}: {images}")
        families = found["models"].get(path, {})
        lines += [
            f"  {family:<12} {each['nats']:.3f} nats a query, {each['same_key']:6.1%} most to the same key"
            f" ({each['queries']:,} queries)"
            for family, each in families.items()
        ]
    return "\n".join(lines)


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin compare-attention",
        description=__doc__.partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="binarised folder with the dictionaries")
    add("--teacher-path", metavar="CKPT", required=True, help="with what the others are compared")
    add("--path", metavar="CKPT", nargs="+", required=True, help="models, each for itself")
    add("--gen-subset", metavar="SPLIT", default="valid", help="the sentences")
    add("--image-h5", metavar="FILE[:FILE...]", help="image store, for models that read images")
    add("--max-tokens", metavar="N", type=positive, default=4000, help="tokens in one mini-batch")
    add("--cpu", action="store_true", help="do not use a GPU")
    add("--json", metavar="FILE", type=Path, help="also write the figures here, for programs")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    return tell(parse_args(argv), measure, table)
