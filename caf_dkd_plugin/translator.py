"""Translation from Python: a trained model, sentences and their images.

    from caf_dkd_plugin import Translator

    translator = Translator.from_pretrained("student/checkpoint_best.pt", "data-bin")
    [translation] = translator.translate(["a man holds a bat"], ["photo.jpg"])

Letters: B sentences, S source tokens, R image regions.
"""

import math
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import torch
from fairseq import utils
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE, SentencepieceConfig
from fairseq.dataclass.configs import GenerationConfig
from PIL import Image
from torch import Tensor

from .data.image_ids import PathLike
from .data.joined_stores import Images, JoinedStores
from .data.multimodal_dataset import MultimodalDataset
from .data.photographs import PhotographReader, Photographs
from .data.split_images import NO_IMAGE
from .distillation.teacher import reads_images
from .tasks.multimodal_translation import MultimodalTranslationTask
from .trained_models import load_models

ONLY_COMMANDS = {
    *("nbest", "no_early_stop", "prefix_size", "print_alignment", "print_step", "replace_unk"),
    *("retain_dropout", "retain_dropout_modules", "sacrebleu", "score_reference"),
}
"""of fairseq's options of generation, those that its commands act on, not what translates for them"""
SentenceImage = Union[None, str, "os.PathLike[str]", Image.Image]
"""the id of an image of the store, the path of a photograph, an open picture, or no image"""


@dataclass(frozen=True)
class Translation:
    """The best hypothesis of a sentence."""

    text: str
    """without subwords, if the translator has their model"""
    score: float
    """as fairseq-generate prints it: log2 of the probability over length ** lenpen"""
    source_tokens: List[str]
    """S symbols, the last of them the end of the sentence"""
    attention: Optional[np.ndarray]
    """(S, R) over the regions of the image, mean of the heads; None without an image. A grid's
    regions go row by row; with R = 1 it says nothing"""


class Translator:
    """A model, or several as an ensemble, ready to translate. See :meth:`from_pretrained`."""

    def __init__(
        self,
        task: MultimodalTranslationTask,
        models: Sequence[torch.nn.Module],
        bpe: Optional[SentencepieceBPE],
        image_weights: Optional[str],
        device: torch.device,
    ):
        self._task = task
        self._models = [model.eval().to(device) for model in models]
        self._bpe = bpe
        self._image_weights = image_weights
        self._device = device
        self._reader: Optional[PhotographReader] = None

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: PathLike,
        data: Optional[PathLike] = None,
        sentencepiece_model: Optional[PathLike] = None,
        image_h5: Optional[PathLike] = None,
        image_weights: Optional[PathLike] = None,
        device: Union[str, torch.device] = "cpu",
    ) -> "Translator":
        """Load a checkpoint of the task ``multimodal_translation``.

        Args:
            checkpoint: its file; several, separated by colons, are an ensemble.
            data: folder with the dictionaries; None: the one that the checkpoint names.
            sentencepiece_model: cuts sentences into the model's subwords and puts translations
                together; without it both are words or subwords between spaces.
            image_h5: image store, to name images by their ids.
            image_weights: file of the backbone's weights, for photographs, when those of the
                training's store came from a file.
            device: where to translate.

        Raises:
            ValueError: another task, other dictionaries, a store of another kind than the training's.
        """
        models, task = load_models(checkpoint, data, image_h5)
        bpe = None
        if sentencepiece_model is not None:
            bpe = SentencepieceBPE(
                SentencepieceConfig(sentencepiece_model=os.fspath(sentencepiece_model))
            )
        weights = None if image_weights is None else os.fspath(image_weights)
        return cls(task, models, bpe, weights, torch.device(device))

    def translate(
        self,
        sentences: Sequence[str],
        images: Optional[Sequence[SentenceImage]] = None,
        beam: int = 5,
        batch_size: int = 32,
        **generation: Any,
    ) -> List[Translation]:
        """Translate B sentences by beam search, in any number of batches.

        Args:
            sentences: raw text, or tokens between spaces where there is no subword model.
            images: of each sentence; None: none has one. What is an id of the store counts as that.
            beam: width of the beam.
            batch_size: sentences in one pass.
            generation: more of fairseq's options of generation by their field names, such as
                ``lenpen=0.8`` or ``max_len_b=50``.

        Raises:
            ValueError: options that only fairseq's commands act on, a text instead of a list of them, not
                as many images as sentences, images for a model that reads none, images that are not
                there, sentences that are too long; the last three all at once, one a line.
            TypeError: fairseq has no such option of generation.
        """
        without_effect = sorted(ONLY_COMMANDS & generation.keys())
        if without_effect:
            raise ValueError(
                f"{', '.join(without_effect)}: only fairseq's commands act on that; leave it out"
            )
        if isinstance(sentences, str):
            raise ValueError("translate takes a list of sentences: put the one into brackets")
        images = [None] * len(sentences) if images is None else list(images)
        if len(images) != len(sentences):
            raise ValueError(
                f"{len(images)} images for {len(sentences)} sentences: give one for each, None "
                "where there is none"
            )
        source = self._task.source_dictionary
        lines = sentences if self._bpe is None else map(self._bpe.encode, sentences)
        tokens = [source.encode_line(line, add_if_not_exist=False).long() for line in lines]
        problems = self._length_problems(tokens)
        rows, pictures = self._resolve(images, problems)
        if problems:
            raise ValueError("\n".join(problems))
        lengths = [len(sentence) for sentence in tokens]
        dataset = self._task.text_for_inference(tokens, lengths)
        if pictures is not None:
            dataset = MultimodalDataset(dataset, pictures, rows)
        generator = self._task.build_generator(
            self._models, GenerationConfig(beam=beam, **generation)
        )
        by_length = sorted(range(len(tokens)), key=lengths.__getitem__)
        found: Dict[int, Translation] = {}
        for start in range(0, len(by_length), batch_size):
            batch = dataset.collater(
                [dataset[place] for place in by_length[start : start + batch_size]]
            )
            found.update(self._translate_batch(generator, batch))
        return [found[place] for place in range(len(tokens))]

    @torch.no_grad()
    def _translate_batch(self, generator, batch) -> Dict[int, Translation]:
        """The translations of a mini-batch, by the place of their sentences."""
        batch = utils.apply_to_sample(lambda x: x.to(self._device), batch)
        hypotheses = self._task.inference_step(generator, self._models, batch)
        attention = self._attention(batch["net_input"])
        source, target = self._task.source_dictionary, self._task.target_dictionary
        found = {}
        for row, (place, ranked) in enumerate(zip(batch["id"].tolist(), hypotheses)):
            tokens = utils.strip_pad(batch["net_input"]["src_tokens"][row], source.pad()).tolist()
            text = target.string(ranked[0]["tokens"].int().cpu())
            found[place] = Translation(
                text=text if self._bpe is None else self._bpe.decode(text),
                score=float(ranked[0]["score"]) / math.log(2),
                source_tokens=[source[token] for token in tokens],
                attention=attention[row][: len(tokens)] if row in attention else None,
            )
        return found

    def _attention(self, net_input: Dict[str, Tensor]) -> Dict[int, np.ndarray]:
        """The first model's attention (S, R) in each row of a mini-batch that has an image."""
        if "image_mask" not in net_input:
            return {}
        inputs = {name: x for name, x in net_input.items() if name != "prev_output_tokens"}
        reader = next(model for model in self._models if reads_images(model))
        maps = reader.encoder(**inputs, need_maps=True)["fusion_map"]  # (B, h, S, R)
        shown = net_input["image_mask"].any(dim=1).nonzero().squeeze(1).tolist()
        return {row: maps[row].mean(dim=0).float().cpu().numpy() for row in shown}

    def _length_problems(self, tokens: Sequence[Tensor]) -> List[str]:
        limit = self._task.max_positions()[0]
        return [
            f"sentence {place} has {len(sentence)} tokens; the model takes at most {limit}"
            for place, sentence in enumerate(tokens)
            if len(sentence) > limit
        ]

    def _resolve(self, images: Sequence[SentenceImage], problems: List[str]):
        """Where to read the image of each sentence.

        Returns:
            (B,) the row of each sentence's image, or `NO_IMAGE`; and the images, None where no
            sentence has one. What is wrong is appended to `problems`.
        """
        if all(image is None for image in images):
            return None, None
        if not self._task.trained_images:
            problems.append("the model was trained without images and cannot use any")
            return None, None
        store = self._task.image_store()
        names = [
            None if image is None else _name(place, image) for place, image in enumerate(images)
        ]
        foreign = {
            name: image
            for name, image in zip(names, images)
            if name is not None and (store is None or name not in store)
        }
        for image in foreign.values():
            if not isinstance(image, Image.Image) and not os.path.isfile(image):
                problems.append(
                    f"{image} is no file"
                    + (f", nor an id of {store.path}" if store is not None else "")
                )
        if problems:
            return None, None
        source: Optional[Images] = store
        if foreign:
            photographs = Photographs(self._photograph_reader(store), foreign, like=store)
            problems += photographs.problems()
            self._task.trained_images.check(photographs)
            source = photographs if store is None else JoinedStores([store, photographs])
        rows = [NO_IMAGE if name is None else source.row_of(name) for name in names]
        return np.array(rows, dtype=np.int64), source

    def _photograph_reader(self, store: Optional[Images]) -> PhotographReader:
        if self._reader is None:
            trained = self._task.trained_images.description
            description = trained if store is None else store.description
            if description is None:
                raise ValueError(
                    "the checkpoint does not say how the images of its training were read, so "
                    "photographs cannot be; put them into a store, and name ids of that"
                )
            self._reader = PhotographReader(description, self._image_weights)
        return self._reader


def _name(place: int, image: SentenceImage) -> str:
    """What to call an image in a set: its id or path, or what no id can be for an open picture."""
    return f"\n{place}" if isinstance(image, Image.Image) else os.fspath(image)
