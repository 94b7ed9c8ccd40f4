"""What can be wrong when the task is set up or a training starts: each finds all of its kind at once."""

import importlib.util
import os
from typing import Any, Dict, List, Optional

from fairseq import utils
from fairseq.data import Dictionary, data_utils
from fairseq.tasks.translation import TranslationTask

from ...checkpoints.load import CheckpointError
from ...checkpoints.resuming import task_state
from ...data.dictionaries import first_difference, symbols, symbols_sha256
from ...data.image_format import can_read_images, format_of_model, format_of_store
from ...data.image_ids import in_short
from ...data.joined_stores import Images, StoredImages
from ...data.split_files import SplitError, find_parts, split_files
from ...data.split_images import image_rows, read_split_ids, with_remedy
from ...data.taught_dataset import lines_of_cache
from ...data.teacher_cache import TeacherCache, TeacherCacheError
from ...data.teacher_source import length_problems, read_part_sides
from ...distillation.top_k import TAIL_TEMPERATURES
from ...modules.visual_backbone import FROM_CHECKPOINT
from .config import MultimodalTranslationConfig


def data_problems(cfg: MultimodalTranslationConfig) -> List[str]:
    """What is missing in DATA, one line each."""
    remedy = "DATA is the folder that fairseq-preprocess or preprocess/prepare_multi30k.py made."
    if not cfg.data:
        return [f"no DATA folder was given. {remedy}"]
    paths = utils.split_paths(cfg.data)
    found = [f"there is no folder {path}. {remedy}" for path in paths if not os.path.isdir(path)]
    if found:
        return found
    langs = [cfg.source_lang, cfg.target_lang]
    if None in langs:
        langs = data_utils.infer_language_pair(paths[0])
    if None in langs:
        return [
            f"{paths[0]} has no binarised split that tells the languages: say --source-lang and "
            f"--target-lang. {remedy}"
        ]
    return [
        f"{paths[0]} has no dict.{lang}.txt. {remedy}"
        for lang in langs
        if not os.path.isfile(os.path.join(paths[0], f"dict.{lang}.txt"))
    ]


def option_problems(cfg: MultimodalTranslationConfig, model_cfg) -> List[str]:
    """What is wrong with the options of task and model, whatever is in the files."""
    found = []
    for side in ("source", "target"):
        if getattr(cfg, f"left_pad_{side}"):
            found.append(
                f"--left-pad-{side}: this task pads the {side} on the right. Leave it out."
            )
    if cfg.tpu and importlib.util.find_spec("torch_xla") is None:
        found.append(
            "with a stock --arch, --bf16 asks fairseq-train for a TPU, and there is no torch_xla. "
            "Use --fp16, or fairseq-hydra-train with common.bf16=true, which does not."
        )
    if not 0 <= cfg.image_dropout <= 1:
        found.append(f"--image-dropout {cfg.image_dropout} must lie between 0 and 1")
    if cfg.image_missing == "mask" and cfg.image_h5 is None:
        found.append(
            "--image-missing mask has no effect on a training without images: give --image-h5, or "
            "leave it out"
        )
    if cfg.image_dropout and cfg.image_h5 is None:
        found.append("--image-dropout hides images, but there are none: give --image-h5")
    for option, value in (
        ("--image-list", cfg.image_list),
        ("--image-list-weights", cfg.image_list_weights),
    ):
        if value is not None:
            found.append(
                f"{option} is for fairseq-interactive; training reads SPLIT.images beside the "
                "sentences"
            )
    if getattr(model_cfg, "image_backbone_weights", None) == FROM_CHECKPOINT:
        found.append(
            f"--image-backbone-weights {FROM_CHECKPOINT} is no choice; a model that is resumed or "
            "used takes its checkpoint's weights by itself"
        )
    if cfg.truncate_source and cfg.teacher_cache is not None:
        found.append(
            "--truncate-source: the teacher of --teacher-cache has read whole sentences. Leave it out, or "
            "use --teacher-path."
        )
    if cfg.teacher_cache is not None and cfg.teacher_path is not None:
        found.append("--teacher-cache and --teacher-path are two teachers: leave one out")
    if cfg.teacher_data is not None and cfg.teacher_path is None:
        found.append("--teacher-data without --teacher-path has no effect: give both")
    if cfg.teacher_source_lang is not None:
        if cfg.teacher_cache is None and cfg.teacher_path is None:
            found.append("--teacher-source-lang without a teacher has no effect: leave it out")
        if cfg.teacher_source_lang == cfg.source_lang:
            found.append(
                f"--teacher-source-lang {cfg.source_lang} is the student's own source: leave it out"
            )
    if cfg.image_h5 is not None and not can_read_images(model_cfg):
        found.append(
            f"--image-h5 is given, but the architecture {getattr(model_cfg, '_name', '?')} reads "
            "no images. Use --arch cross_modal_rnn or cross_modal_transformer, or leave --image-h5 "
            "out."
        )
    if cfg.init_from is not None and cfg.finetune_from_model is not None:
        found.append(
            "--init-from and --finetune-from-model are two models to start from: leave one out"
        )
    found += _best_problems(cfg)
    given = format_of_model(model_cfg)
    if cfg.image_h5 is None and given is not None:
        found.append(f"{given.option} is read from the image store: give --image-h5 instead")
    return found


def _best_problems(cfg: MultimodalTranslationConfig) -> List[str]:
    """Whether the best checkpoint can be told, and is not the worst."""
    metric = cfg.best_checkpoint_metric
    if cfg.disable_validation:
        return []
    if metric.startswith(("kd_", "a2d_")):
        return [
            f"--best-checkpoint-metric {metric} is of training only, since no teacher is asked in "
            "validation: use loss, nll_loss, or bleu"
        ]
    if metric != "bleu":
        return []
    found = []
    if not cfg.eval_bleu:
        found.append("--best-checkpoint-metric bleu needs --eval-bleu")
    if not cfg.maximize_best_checkpoint_metric:
        found.append(
            "--best-checkpoint-metric bleu would keep the worst epoch without "
            "--maximize-best-checkpoint-metric"
        )
    return found


def start_problems(cfg: MultimodalTranslationConfig) -> List[str]:
    """What is wrong with the model that a new training starts from."""
    if cfg.init_from is None or os.path.isfile(cfg.init_from):
        return []
    return [f"--init-from {cfg.init_from} does not exist"]


def _given_images(cfg: MultimodalTranslationConfig) -> List[str]:
    """The options with which images were given."""
    options = (("--image-h5", cfg.image_h5), ("--image-list", cfg.image_list))
    return [f"{option} {value}" for option, value in options if value is not None]


def unread_problems(cfg: MultimodalTranslationConfig) -> List[str]:
    """Whether images were given, none of the models from checkpoints being one that reads them."""
    given = _given_images(cfg)
    return given and [
        f"the checkpoint was trained without images and cannot use {' and '.join(given)}: leave that out."
    ]


def use_problems(cfg: MultimodalTranslationConfig, model_cfg, reads_images: bool) -> List[str]:
    """Whether the options about images are for a model from a checkpoint.

    One of ours that was trained without images takes and ignores them, as in an ensemble.

    Args:
        cfg: of fairseq-generate, fairseq-validate or fairseq-interactive.
        model_cfg: the model's.
        reads_images: whether the model was trained with images.
    """
    found = []
    if reads_images and not _given_images(cfg) and cfg.image_missing == "error":
        found.append(
            "the checkpoint was trained with images. Give its image store with --image-h5 (in "
            "fairseq-interactive with --image-list, which names the image of each line), or "
            "--image-missing mask to translate without images on purpose."
        )
    if not can_read_images(model_cfg):
        found += unread_problems(cfg)
    if cfg.image_list_weights is not None and cfg.image_list is None:
        found.append("--image-list-weights has no effect without --image-list: leave it out")
    return found


def split_problems(cfg: MultimodalTranslationConfig, store: Optional[Images]) -> List[str]:
    """Everything about SPLIT.images of the splits that training will load."""
    paths = utils.split_paths(cfg.data)
    wanted = [(data, cfg.train_subset, True) for data in paths]
    if not cfg.disable_validation:
        if cfg.combine_valid_subsets:
            wanted.append((paths[0], "valid", True))
        else:
            wanted += [(paths[0], split, False) for split in cfg.valid_subset.split(",")]
    found = []
    for data, split, combine in wanted:
        try:
            ids = read_split_ids(split_files(cfg, data, combine), split)
        except SplitError as error:
            found += error.problems
            continue
        if store is None:
            continue
        if cfg.image_missing == "error":
            found += with_remedy(image_rows(store, ids, split)[1])
        elif split == cfg.train_subset and any(ids) and not any(name in store for name in ids):
            found.append(
                f"{store.path} has none of the {len(set(ids) - {''})} images of {split} in {data}, and "
                "with --image-missing mask the model would learn to translate without: the list names "
                f"{in_short([name for name in ids if name])}, the store has {in_short(store.ids)}"
            )
    return found


def format_problems(model_cfg, store: Images) -> List[str]:
    """Whether the model was told by hand of other images than the store has."""
    given, found = format_of_model(model_cfg), format_of_store(store)
    if given in (None, found):
        return []
    return [
        f"{given.option} does not fit {store.path}, which has {found}. Leave the option out: the "
        "task reads it from the store."
    ]


def dictionary_problems(task: TranslationTask, state_dict: Dict[str, Any]) -> List[str]:
    """Where the dictionaries of a checkpoint's task state are not those of DATA."""
    found = []
    for side, dictionary, lang in (
        ("source", task.source_dictionary, task.cfg.source_lang),
        ("target", task.target_dictionary, task.cfg.target_lang),
    ):
        trained = state_dict.get(f"{side}_symbols")
        if trained is None:
            continue  # a checkpoint of another task
        difference = first_difference(trained, symbols(dictionary))
        if difference:
            found.append(
                f"the checkpoint was trained with another {side} dictionary than dict.{lang}.txt "
                f"in {utils.split_paths(task.cfg.data)[0]} (first: checkpoint, second: folder): "
                f"{difference}. Use the folder of its training, or binarise this one with its "
                "dictionaries."
            )
    return found


def other_start(cfg: MultimodalTranslationConfig, path: str) -> str:
    """What to do where a training cannot go on from a checkpoint."""
    if path == cfg.finetune_from_model:
        return "What fits of it can be taken with --init-from in place of --finetune-from-model."
    if path in (cfg.continue_once, cfg.restore_file):
        return (
            "To begin anew, leave out --restore-file or --continue-once; to start from its weights, give "
            "--init-from in their place."
        )
    return "To begin anew, give another --save-dir; to start from its weights, --init-from."


def resume_problems(task: TranslationTask, path: str, store: Optional[Images]) -> List[str]:
    """fairseq-train loads no task state; were these the dictionaries and images so far?

    Args:
        task: with the dictionaries of now.
        path: the checkpoint from which the training will go on.
        store: the images of now.
    """
    try:
        state = task_state(path)
    except CheckpointError as error:
        return error.problems
    remedy = other_start(task.cfg, path)
    found = [f"{line} {remedy}" for line in dictionary_problems(task, state)]
    if store is not None and state.get("images") is not None:
        differences = store.description.differences(state["images"], "now", "so far")
        if differences:
            found.append(
                f"{path} was trained with images of another kind: {'; '.join(differences)}. "
                f"{remedy}"
            )
    return found


def side_dictionary(task: TranslationTask, lang: str) -> Dictionary:
    """That of the student's source, or of another side that a teacher reads.

    Raises:
        ValueError: it is missing.
    """
    if lang == task.cfg.source_lang:
        return task.source_dictionary
    path = os.path.join(utils.split_paths(task.cfg.data)[0], f"dict.{lang}.txt")
    if not os.path.isfile(path):
        raise ValueError(
            f"{path} does not exist, the dictionary of the side that the teacher reads. "
            "preprocess/prepare_multi30k.py --teacher-source makes such folders."
        )
    return task.load_dictionary(path)


def teacher_source_problems(task: TranslationTask, longest: int) -> List[str]:
    """Whether a teacher can read its side of all training sentences.

    Args:
        task: with --teacher-source-lang.
        longest: how many tokens it reads.
    """
    found = []
    for data in utils.split_paths(task.cfg.data):
        files = split_files(task.cfg, data, True)
        try:
            for part, side in zip(
                find_parts(files, task.cfg.train_subset),
                read_part_sides(files, task.cfg.train_subset, task.cfg.teacher_source_lang),
            ):
                name = f"{part.prefix}{task.cfg.teacher_source_lang}.bin"
                found += length_problems(side.sizes, longest, f"source tokens of {name}")
        except SplitError as error:
            found += error.problems
    return found


def cache_problems(
    task: TranslationTask, cache: TeacherCache, store: Optional[StoredImages]
) -> List[str]:
    """Whether a teacher's cache is of these dictionaries, texts and images."""
    lang, chosen = cache.stamp.source_lang, task.cfg.teacher_source_lang
    if chosen not in (None, lang):
        return [f"the teacher of {cache.path} reads {lang}, not --teacher-source-lang {chosen}"]
    try:
        source = side_dictionary(task, lang)
    except ValueError as error:
        return [str(error)]
    found = []
    for side, dictionary, recorded in (
        (lang, source, cache.stamp.source_symbols_sha256),
        (task.cfg.target_lang, task.target_dictionary, cache.stamp.target_symbols_sha256),
    ):
        if symbols_sha256(dictionary) != recorded:
            found.append(
                f"{cache.path} was made with another dict.{side}.txt than that of "
                f"{task.cfg.data}. Make it again from this folder."
            )
    if store is not None and cache.stamp.images is not None:
        differences = store.description.differences(cache.stamp.images, "now", "there")
        if differences:
            found.append(
                f"the teacher of {cache.path} saw images of another kind: {'; '.join(differences)}"
            )
        elif store.content_sha256() != cache.stamp.images["content_sha256"]:
            found.append(
                f"the teacher of {cache.path} saw another image store than {store.path}: other ids, or "
                "other numbers. Make the cache again."
            )
    if cache.stamp.tail_temperatures != TAIL_TEMPERATURES:
        found.append(
            f"{cache.path} knows its tails at the temperatures {cache.stamp.tail_temperatures}, this "
            f"program wants {TAIL_TEMPERATURES}. Make it again."
        )
    for data in utils.split_paths(task.cfg.data):
        try:
            lines_of_cache(
                cache, split_files(task.cfg, data, True), task.cfg.train_subset, store is not None
            )
        except SplitError as error:
            found += error.problems
        except TeacherCacheError as error:
            found += str(error).split("\n")
    return found
