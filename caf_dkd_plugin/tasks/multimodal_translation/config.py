"""The settings of the task ``multimodal_translation``."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks.translation import TranslationConfig
from omegaconf import II


@dataclass
class MultimodalTranslationConfig(TranslationConfig):
    left_pad_source: bool = field(
        default=False,
        metadata={"help": "refused: this task pads the source on the right"},
    )
    upsample_primary: int = field(
        default=1, metadata={"help": "how often to repeat train when there is train1 too"}
    )
    image_h5: Optional[str] = field(
        default=None,
        metadata={
            "help": "image store (HDF5), or several, separated by colons, that are read as one; "
            "without it the task is plain translation"
        },
    )
    image_missing: ChoiceEnum(["error", "mask"]) = field(
        default="error",
        metadata={
            "help": "what an image that is not in the store does: stop with an error, or count as "
            "no image; 'mask' also lets a model that was trained with images translate without"
        },
    )
    image_dropout: float = field(
        default=0.0,
        metadata={
            "help": "in training, hide the image of a sentence with this probability, so that one "
            "model serves with and without images"
        },
    )
    image_list: Optional[str] = field(
        default=None,
        metadata={
            "help": "fairseq-interactive: text file with the image of each input line, an id of the "
            "store or the path of a photograph; an empty line means no image"
        },
    )
    image_list_weights: Optional[str] = field(
        default=None,
        metadata={
            "help": "with photographs in --image-list: the file of the backbone's weights, where "
            "those of the image store came from a file"
        },
    )
    teacher_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of the frozen teacher; several, separated by colons, are averaged "
            "in probability"
        },
    )
    teacher_cache: Optional[str] = field(
        default=None,
        metadata={
            "help": "what preprocess/cache_teacher.py wrote down of a teacher, instead of the teacher"
        },
    )
    teacher_data: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder with the teacher's dictionaries (default: the one its checkpoint names)"
        },
    )
    teacher_source_lang: Optional[str] = field(
        default=None,
        metadata={
            "help": "language that the teacher reads, where it is not the student's source: "
            "SPLIT.SRC-TGT.LANG.bin and dict.LANG.txt in DATA, the same sentences line by line"
        },
    )
    init_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "start a new model from what fits it of this checkpoint: one of its architecture, "
            "such as one without images, or fairseq's lstm for a cross_modal_rnn, its transformer for a "
            "cross_modal_transformer; the log lists what was taken"
        },
    )
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    checkpoint_suffix: str = II("checkpoint.checkpoint_suffix")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    reset_optimizer: bool = II("checkpoint.reset_optimizer")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")
    valid_subset: str = II("dataset.valid_subset")
    combine_valid_subsets: Optional[bool] = II("dataset.combine_valid_subsets")
    disable_validation: bool = II("dataset.disable_validation")
    tpu: bool = II("common.tpu")
