"""fairseq-train in this process, step by step: its task, model, criterion and trainer.

Letters: B sentences, S source tokens, T target tokens, d width.
"""

import shlex
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from made_up_text import write_text
from omegaconf import OmegaConf
from rounds import Side, speed
from sizes import Sizes

import caf_dkd_plugin  # noqa: F401  (registers what the command lines below name)

PLAIN = shlex.split("--criterion label_smoothed_cross_entropy --label-smoothing 0.1")
OPTIMISER = shlex.split(
    "--optimizer adam --lr 0.001 --clip-norm 1 --distributed-world-size 1 --seed 1"
)
DROPOUT = 0.3
FFN_WIDTHS = 2
"""how many times as wide as the model the fusion's FFN is"""
ON_CPU = ["--cpu"]
MULTIPLE = 8
"""fairseq-fixed leaves out what exceeds a multiple of this, where it validates a model of its own"""


class Shape(NamedTuple):
    """Of a mini-batch."""

    sentences: int
    source: int
    """S, padding included"""
    target: int
    """T, padding included"""
    words: int
    """of the target, without padding"""


def write_data(folder: Path, sizes: Sizes, images: int) -> Path:
    """The folder of text that the trainings of this program share."""
    tenth = max(sizes.sentences // 10 // MULTIPLE, 1) * MULTIPLE
    sentences = {"train": sizes.sentences, "valid": tenth, "test": sizes.translated}
    return write_text(folder, sentences, sizes.symbols, sizes.words, images)


def common_options(data: Path, sizes: Sizes) -> List[str]:
    """DATA, and how much is read in this process, so that what loading costs is in the figures."""
    batches = shlex.split(f"--max-tokens {sizes.tokens} --num-workers 0")
    return [str(data), *OPTIMISER, *batches, "--save-dir", str(data / "no-checkpoints")]


def cross_modal_rnn(width: int) -> List[str]:
    """Our task and model, every width d."""
    return shlex.split(
        "--task multimodal_translation --arch cross_modal_rnn "
        f"--dropout {DROPOUT} --embed-dropout {DROPOUT} "
        f"--encoder-embed-dim {width} --encoder-hidden-size {width} "
        f"--decoder-embed-dim {width} --decoder-hidden-size {width} "
        f"--fusion-dim {width} --fusion-ffn-dim {FFN_WIDTHS * width}"
    )


def fairseq_lstm(width: int) -> List[str]:
    """fairseq's own task and model of the same widths: d / 2 from each direction of the encoder."""
    return shlex.split(
        f"--task translation --arch lstm --dropout {DROPOUT} "
        f"--encoder-layers 1 --encoder-bidirectional --encoder-embed-dim {width} "
        f"--encoder-hidden-size {width // 2} --decoder-layers 1 --decoder-embed-dim {width} "
        f"--decoder-hidden-size {width} --decoder-out-embed-dim {width}"
    )


class Training:
    """What fairseq-train makes of a command line, up to its first update.

    Args:
        words: the command line, without the program's name.
        settings: what only fairseq-hydra-train can set, such as {"common.bf16": True}.
    """

    def __init__(self, words: Sequence[str], settings: Optional[Dict[str, Any]] = None):
        parser = options.get_training_parser()
        args = options.parse_args_and_arch(parser, input_args=list(words))
        self.cfg = convert_namespace_to_omegaconf(args)
        for name, value in (settings or {}).items():
            OmegaConf.update(self.cfg, name, value, merge=False)
        self.task = tasks.setup_task(self.cfg.task)
        utils.set_torch_seed(self.cfg.common.seed)
        self.model = self.task.build_model(self.cfg.model)
        criterion = self.task.build_criterion(self.cfg.criterion)
        self.trainer = Trainer(self.cfg, self.task, self.model, criterion)
        self._batches = self.batches()

    def batches(self) -> Iterator[Dict[str, Any]]:
        """The mini-batches of one epoch after the other, in an order that depends on the text only."""
        epochs = self.trainer.get_train_iterator(epoch=1)
        while True:
            yield from epochs.next_epoch_itr()

    def shapes(self, count: int) -> List[Shape]:
        """Of the first mini-batches."""
        found = []
        for _, batch in zip(range(count), self.batches()):
            sentences, source = batch["net_input"]["src_tokens"].shape
            found.append(Shape(sentences, source, batch["target"].size(1), batch["ntokens"]))
        return found

    def next_batch(self) -> Dict[str, Any]:
        """The mini-batch of the next update."""
        return next(self._batches)

    def step(self, batch: Dict[str, Any]) -> int:
        """One update; the target words in it, as fairseq counts them."""
        self.trainer.train_step([batch])
        return int(batch["ntokens"])

    def steps(self, count: int) -> int:
        """The next updates; the target words in them."""
        return sum(self.step(self.next_batch()) for _ in range(count))

    def validation_loss(self) -> float:
        """Of the validation set, in bits a word, label smoothing left out."""
        self.task.load_dataset("valid")
        batches = self.trainer.get_valid_iterator("valid").next_epoch_itr(shuffle=False)
        with metrics.aggregate(new_root=True) as found:
            for batch in batches:
                self.trainer.valid_step(batch)
        return float(found.get_smoothed_value("nll_loss"))

    def save(self, path: Path) -> Path:
        """Write a checkpoint; its path."""
        self.trainer.consolidate_optimizer()  # which fairseq-train does before
        self.trainer.save_checkpoint(str(path), {})
        return path


def training_sides(
    trainings: Dict[Any, Training], steps: int, clock: Callable[[], float]
) -> Dict[Any, Side]:
    """Of each training, by the same name, the speed of its next `steps` updates in target words/s."""
    return {
        name: speed(lambda training=training: training.steps(steps), clock)
        for name, training in trainings.items()
    }
