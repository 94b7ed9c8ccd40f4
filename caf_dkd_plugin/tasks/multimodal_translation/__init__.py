"""The task ``multimodal_translation``: translation with images and a frozen teacher.

Letters: B sentences, R image regions.
"""

import copy
import logging
from dataclasses import asdict
from typing import Any, Dict, Optional, Tuple

import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask
from omegaconf import open_dict

from ...checkpoints.initialise import initialise
from ...checkpoints.model_settings import going_on_problems
from ...checkpoints.resuming import resumed_path
from ...data.complete_dataset import CompleteDataset
from ...data.dictionaries import symbols
from ...data.image_format import format_of_model, format_of_store
from ...data.image_list import ImageList
from ...data.joined_stores import Images, StoredImages, open_stores
from ...data.multimodal_dataset import MultimodalDataset
from ...data.split_files import SplitError, SplitFiles, split_files
from ...data.split_images import image_rows, read_split_ids, with_remedy
from ...freed_memory import keep_freed_memory
from ...learning_rates import scaled_learning_rates
from ...modules.visual_backbone import FROM_CHECKPOINT, IMAGE_BACKBONE
from .checks import (
    data_problems,
    dictionary_problems,
    format_problems,
    option_problems,
    other_start,
    resume_problems,
    split_problems,
    start_problems,
    unread_problems,
    use_problems,
)
from .config import MultimodalTranslationConfig
from .criterion_checks import (
    Looking,
    aligned_heads,
    criterion_problems,
    resumed_problems,
)
from .teaching import Teaching
from .trained_images import TrainedImages, TrainedOn

logger = logging.getLogger(__name__)


@register_task("multimodal_translation", dataclass=MultimodalTranslationConfig)
class MultimodalTranslationTask(TranslationTask):
    """Translation that reads images from a store and may have a teacher.

    What can be wrong with data, images, teacher and the options about them is checked in
    :meth:`build_model`, before training starts, and reported at once; the model's settings and, in
    :meth:`build_criterion`, the criterion's follow. The teacher is loaded in the former, but not for a
    model from a checkpoint, so that validation and generation work without the teacher's file.
    """

    cfg: MultimodalTranslationConfig

    def __init__(self, cfg: MultimodalTranslationConfig, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        self.teaching = Teaching(self)
        self._training = False
        # The checkpoint from which the training will go on.
        self._resumed: Optional[str] = None
        self._store: Optional[StoredImages] = None
        self._image_list: Optional[ImageList] = None
        # Where the images of the checkpoint came from whose state was loaded last.
        self._description: Optional[Dict[str, str]] = None
        self.trained_images = TrainedImages()
        """of the models from checkpoints: false if none reads images"""
        self._lr_factors: Dict[str, float] = {}
        self._epoch = 1
        self._student = Looking(maps=None, regions=None)
        self.aligned_heads: Dict[str, Tuple[int, int]] = {}
        """of each family whose attention is aligned, the number of maps of student and teacher"""

    @classmethod
    def setup_task(cls, cfg: MultimodalTranslationConfig, **kwargs):
        """Load the dictionaries.

        Raises:
            ValueError: DATA is not what fairseq-preprocess makes.
        """
        problems = data_problems(cfg)
        if problems:
            raise ValueError("\n".join(problems))
        return super().setup_task(cfg, **kwargs)

    # -- the image store ------------------------------------------------------------------------

    def image_store(self) -> Optional[StoredImages]:
        """The opened store, or several as one, or None without --image-h5.

        Raises:
            ValueError: it cannot be used.
        """
        if self._store is None and self.cfg.image_h5 is not None:
            store = open_stores(utils.split_paths(self.cfg.image_h5))
            format_of_store(store)  # can it be read at all?
            self._store = store
        return self._store

    def check_images_are_read(self) -> None:
        """By a model of those from checkpoints: in an ensemble others may do without.

        Raises:
            ValueError: all of them were trained without images.
        """
        problems = unread_problems(self.cfg) if self.trained_images.are_of_nobody else []
        if problems:
            raise ValueError("\n".join(problems))

    # -- data -----------------------------------------------------------------------------------

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        """Load a split and, with --image-h5, the images of its sentences.

        Raises:
            ValueError: the images do not fit the sentences or the model.
        """
        if self.cfg.image_list is not None:
            raise ValueError(
                f"--image-list is for fairseq-interactive; the images of {split} are named by "
                f"{split}.images beside its sentences. Leave --image-list out."
            )
        self.check_images_are_read()
        super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)
        training = split == self.cfg.train_subset
        paths = utils.split_paths(self.cfg.data)
        files = split_files(
            self.cfg, paths[(epoch - 1) % len(paths)] if training else paths[0], combine
        )
        store = self.image_store()
        if store is None:
            self.datasets[split] = CompleteDataset(self.datasets[split])
        else:
            self.trained_images.check(store)
            self.datasets[split] = self._with_images(self.datasets[split], store, files, split)
        if training:
            self.datasets[split] = self.teaching.with_teacher(
                self.datasets[split], files, split, store is not None
            )

    def _with_images(
        self, pairs: LanguagePairDataset, store: Images, files: SplitFiles, split: str
    ) -> MultimodalDataset:
        ids = read_split_ids(files, split)
        rows, absent = image_rows(store, ids, split)
        if absent and self.cfg.image_missing == "error":
            raise SplitError(with_remedy(absent))
        with_image = int((rows >= 0).sum())
        logger.info(
            f"{files.data} {split}: {with_image} of {len(rows)} sentences have an image"
            + "".join(f"; {line}; masked" for line in absent)
        )
        return MultimodalDataset(pairs, store, rows)

    def get_batch_iterator(self, dataset, *args, epoch=1, **kwargs):
        """fairseq's iterator; a resumed training gets the mini-batches of an uninterrupted one.

        fairseq-fixed 0.12.3.1 orders sentences of equal length by the epoch in which the iterator is
        made, which is the first one only while nothing is resumed. On official fairseq 0.12.2, which
        goes by the seed alone, nothing changes. With --update-epoch-batch-itr every epoch has an iterator
        of its own, resumed or not.
        """
        cached = self.dataset_to_epoch_iter.get(dataset)
        ordered_by = epoch if kwargs.get("update_epoch_batch_itr") else 1
        iterator = super().get_batch_iterator(dataset, *args, epoch=ordered_by, **kwargs)
        if iterator is not cached:
            iterator.epoch = max(epoch, 1)  # as fairseq numbers them
        return iterator

    # -- building -------------------------------------------------------------------------------

    def build_model(self, cfg, from_checkpoint=False):
        """Check everything, write what the store tells into the model's settings, build the model.

        Raises:
            ValueError: all problems, one a line.
        """
        if from_checkpoint:
            self._check_use(cfg)
            if hasattr(cfg, "image_backbone_weights"):
                cfg = _with_weights_of_checkpoint(cfg)
            return super().build_model(cfg, from_checkpoint)
        self._training = True
        resumed = self._resumed = resumed_path(
            self.cfg.save_dir,
            self.cfg.restore_file,
            self.cfg.checkpoint_suffix,
            self.cfg.continue_once,
            self.cfg.finetune_from_model,
        )
        self._prepare_training(cfg, resumed)
        if getattr(cfg, "image_finetune_from", None) is not None:
            self._lr_factors = {IMAGE_BACKBONE: cfg.image_lr_factor}
        if resumed is not None and hasattr(cfg, "image_backbone_weights"):
            cfg = _with_weights_of_checkpoint(cfg)
        model = super().build_model(cfg, from_checkpoint)
        if resumed is not None:
            problems = going_on_problems(resumed, model)
            if problems:
                raise ValueError("\n".join([*problems, other_start(self.cfg, resumed)]))
        if hasattr(model, "map_counts"):
            self._student = Looking(model.map_counts(), self._regions_of(model))
        if self.cfg.init_from is not None and resumed is not None:
            logger.info(f"going on from {resumed}, so --init-from is not read")
        elif self.cfg.init_from is not None:
            store = self.image_store()
            images = asdict(store.description) if store is not None else None
            initialise(model, self.cfg.init_from, images)
        return model

    def _regions_of(self, model) -> Optional[int]:
        """Of an image, how many regions a model sees; None: it reads none."""
        store = self.image_store()
        if store is None or model.encoder.regions is not None:
            return model.encoder.regions
        return store.shape[1]

    def _check_use(self, model_cfg) -> None:
        """A model from a checkpoint and this command line: do they belong together?"""
        trained = TrainedOn(format_of_model(model_cfg), self._description)
        self.trained_images.add(trained)
        problems = use_problems(self.cfg, model_cfg, trained.format is not None)
        if problems:
            raise ValueError("\n".join(problems))
        if self.cfg.image_list is not None and self.trained_images:
            if self._image_list is None:
                self._image_list = self._read_image_list()
            self.trained_images.check(self._image_list.images)  # of an ensemble, every model

    def _prepare_training(self, model_cfg, resumed: Optional[str]) -> None:
        problems = option_problems(self.cfg, model_cfg)
        store = None
        try:
            store = self.image_store()
        except ValueError as error:
            problems += str(error).split("\n")
        if self.cfg.image_h5 is not None:
            problems += split_problems(self.cfg, store)
        if store is not None:
            problems += format_problems(model_cfg, store)
        if resumed is None:
            problems += start_problems(self.cfg)
        else:
            problems += resume_problems(self, resumed, store)
        problems += self.teaching.begin(store)
        if problems:
            raise ValueError(
                f"training cannot start, {len(problems)} problem(s) found:\n"
                + "\n".join(f"- {line}" for line in problems)
            )
        if not torch.cuda.is_available():
            keep_freed_memory()
        if store is not None:
            found = format_of_store(store)
            with open_dict(model_cfg):
                model_cfg.update(found.as_settings())
            logger.info(f"{store.path}: {len(store)} images, {found}")

    def build_criterion(self, cfg, *args, **kwargs):
        """Build the criterion; when training starts, check that it and the teacher agree.

        Raises:
            ValueError: all problems, one a line: lambda < 1 without a teacher, a teacher that would have
                no effect, attention that cannot be aligned.
        """
        if self._training:
            symbols = len(self.target_dictionary)
            problems = criterion_problems(self.cfg, cfg, self.teaching, symbols, self._student)
            if not problems:
                families = getattr(cfg, "a2d_families", None)
                teacher = self.teaching.teacher
                self.aligned_heads = aligned_heads(families, self._student.maps, teacher)
                if self._resumed is not None:
                    problems = resumed_problems(self._resumed, self.cfg, cfg, self.aligned_heads)
            if problems:
                raise ValueError("\n".join(problems))
        return super().build_criterion(cfg, *args, **kwargs)

    # -- what is in the checkpoint --------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """fairseq's task state, the symbols of both dictionaries, and what the images were."""
        store = self.image_store()
        return {
            **super().state_dict(),
            "source_symbols": symbols(self.source_dictionary),
            "target_symbols": symbols(self.target_dictionary),
            "images": asdict(store.description) if store is not None else None,
        }

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Refuse a checkpoint whose dictionaries are not those of DATA.

        Raises:
            ValueError: the first difference of each dictionary that differs.
        """
        found = dictionary_problems(self, state_dict)
        if found:
            raise ValueError("\n".join(found))
        ours = ("source_symbols", "target_symbols", "images")
        rest = {name: value for name, value in state_dict.items() if name not in ours}
        self._description = state_dict.get("images")
        super().load_state_dict(rest)

    # -- training -------------------------------------------------------------------------------

    def train_step(
        self, sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs
    ):
        """Add what the teacher says, hide images, and do fairseq's step.

        What :meth:`~.teaching.Teaching.said_of` returns goes into ``sample["teacher"]``, the number of
        updates so far, which a schedule of the criterion's lambda follows, into ``sample["update_num"]``,
        and the number of the epoch into ``sample["epoch"]``. The teacher sees the images that
        --image-dropout hides from the student.
        """
        if self.teaching.option is not None:
            dtype = next(model.parameters()).dtype
            said = self.teaching.said_of(sample, dtype, self.aligned_heads, ignore_grad)
            position = {"update_num": update_num, "epoch": self._epoch}
            sample = {**sample, "teacher": said, **position}
        if self.cfg.image_dropout:
            sample = {**sample, "net_input": self._hide_images(sample["net_input"])}
        return super().train_step(
            sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs
        )

    def begin_epoch(self, epoch, model) -> None:
        """Remember its number, which the weight of aligned attention follows."""
        self._epoch = epoch
        super().begin_epoch(epoch, model)

    def _hide_images(self, net_input):
        mask = net_input["image_mask"]  # (B, R)
        kept = torch.rand(len(mask), 1, device=mask.device) >= self.cfg.image_dropout
        return {**net_input, "image_mask": mask & kept}

    def optimizer_step(self, optimizer, model, update_num):
        """fairseq's step, in which a fine-tuned backbone learns at its own rate.

        Raises:
            ValueError: the optimiser keeps all weights in one tensor and cannot tell them apart.
        """
        if not self._lr_factors:
            return super().optimizer_step(optimizer, model, update_num)
        groups = optimizer.param_groups
        marks = {getattr(weight, "param_group", None) for g in groups for weight in g["params"]}
        if not marks & self._lr_factors.keys():
            raise ValueError(
                "fairseq keeps all weights in one tensor here, in which those of the backbone cannot "
                "learn at a rate of their own: with --fp16 or --bf16 add --fp16-no-flatten-grads, or "
                "use --memory-efficient-fp16; use no --ddp-backend fully_sharded"
            )
        with scaled_learning_rates(groups, self._lr_factors):
            return super().optimizer_step(optimizer, model, update_num)

    # -- fairseq-interactive --------------------------------------------------------------------

    def text_for_inference(self, src_tokens, src_lengths, constraints=None) -> LanguagePairDataset:
        """Sentences to translate, without images.

        Raises:
            ValueError: images were given, and no model reads any.
        """
        self.check_images_are_read()
        return LanguagePairDataset(
            src_tokens,
            src_lengths,
            self.source_dictionary,
            tgt_dict=self.target_dictionary,
            left_pad_source=self.cfg.left_pad_source,
            constraints=constraints,
        )

    def build_dataset_for_inference(self, src_tokens, src_lengths, constraints=None):
        """The next buffer of input lines, with the images that --image-list names for them.

        Raises:
            ValueError: there is a store and no list, or the list is too short.
        """
        pairs = self.text_for_inference(src_tokens, src_lengths, constraints)
        if self._image_list is not None:
            return self._image_list.dataset(pairs)
        if self.cfg.image_h5 is not None:
            raise ValueError(
                "--image-h5 is not read here without --image-list, which names the image of each line: "
                "give that too, or leave --image-h5 out and give --image-missing mask."
            )
        return pairs

    def _read_image_list(self) -> ImageList:
        store = self.image_store()
        if store is not None:
            self.trained_images.check(store)
        return ImageList(
            self.cfg.image_list,
            store,
            store.description if store is not None else self.trained_images.description,
            self.cfg.image_list_weights,
            self.cfg.image_missing == "error",
        )

    def inference_step(self, generator, models, sample, prefix_tokens=None, constraints=None):
        """Translate a mini-batch; with --image-list, its images are put back first."""
        if self._image_list is not None:
            sample = self._image_list.put_back(sample, next(models[0].parameters()))
        return super().inference_step(generator, models, sample, prefix_tokens, constraints)


def _with_weights_of_checkpoint(model_cfg):
    """The settings of a model whose backbone will get its weights from a checkpoint, not from a file."""
    changed = copy.deepcopy(model_cfg)
    changed.image_backbone_weights = FROM_CHECKPOINT
    return changed
