"""What can be wrong between a teacher and the criterion that is to learn from it."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from fairseq.criterions import CRITERION_DATACLASS_REGISTRY

from ...checkpoints.load import load_checkpoint
from ...data.teacher_cache import TeacherCache
from ...distillation.attention_alignment import FAMILIES, AttentionAlignment, family_problems
from ...distillation.teacher import FrozenTeacher
from .config import MultimodalTranslationConfig
from .teaching import Teaching

CRITERION = "kd_label_smoothed_cross_entropy"


class Looking(NamedTuple):
    """What a student has of attention."""

    maps: Optional[Dict[str, int]]
    """of each family the number of maps; None: it gives none"""
    regions: Optional[int]
    """of an image; None: it reads none"""


def criterion_problems(
    cfg: MultimodalTranslationConfig,
    criterion_cfg,
    teaching: Teaching,
    symbols: int,
    student: Looking,
) -> List[str]:
    """What is wrong with the criterion's settings, one line each.

    Args:
        cfg: the task's settings.
        criterion_cfg: any criterion's.
        teaching: with a teacher, if there is one.
        symbols: of the target dictionary.
        student: that is to learn.
    """
    option, name = teaching.option, criterion_cfg._name
    teacher, cache = teaching.teacher, teaching.cache
    if name != CRITERION:
        return (
            [
                f"{option} has no effect with --criterion {name}: use --criterion {CRITERION}, or "
                "leave the teacher out."
            ]
            if option is not None
            else []
        )
    found = _lambda_problems(criterion_cfg, option) + _unused_problems(criterion_cfg)
    if cache is not None:
        found += _temperature_problems(criterion_cfg.kd_temperature, cfg, cache, symbols)
    if criterion_cfg.a2d_families is not None:
        related = cfg.teacher_source_lang is not None
        found += _family_problems(criterion_cfg.a2d_families, student.maps, teacher, related)
        if teacher is not None and "fusion" in criterion_cfg.a2d_families.split(","):
            found += _region_problems(student.regions, teacher)
    return found


def aligned_heads(
    families: Optional[str], student: Optional[Dict[str, int]], teacher: Optional[FrozenTeacher]
) -> Dict[str, Tuple[int, int]]:
    """Of each family whose attention is aligned, the number of maps of student and teacher.

    In the order of all families, whatever that of --a2d-families is: an optimiser knows weights by their
    order.
    """
    if families is None:
        return {}
    theirs, named = teacher.map_counts(), families.split(",")
    return {name: (student[name], theirs[name]) for name in FAMILIES if name in named}


def resumed_problems(
    path: str, cfg: MultimodalTranslationConfig, criterion_cfg, heads: Dict[str, Tuple[int, int]]
) -> List[str]:
    """Whether a training can go on with what its aligners and their optimiser have learned so far.

    Args:
        path: the checkpoint.
        cfg: the task's settings.
        criterion_cfg: of now, any criterion's.
        heads: of :func:`aligned_heads`.
    """
    if cfg.reset_optimizer or path == cfg.finetune_from_model:
        return []
    aligner = str(getattr(criterion_cfg, "a2d_aligner", ""))
    wanted = _shapes(AttentionAlignment(aligner, heads).state_dict()) if heads else {}
    state = load_checkpoint(path)
    if state.get("last_optimizer_state") is None:  # it begins anew
        return []
    prefix = "alignment."
    of_criterion = (state.get("criterion") or {}).items()
    found = _shapes({name[len(prefix) :]: x for name, x in of_criterion if name.startswith(prefix)})
    if list(wanted.items()) == list(found.items()):  # in the same order, as the optimiser has them
        return []

    def in_words(shapes):
        families = dict.fromkeys(name.split(".")[1] for name in shapes)
        sizes = " ".join(f"{list(shape)}" for shape in shapes.values())
        return f"{', '.join(families)} with weights of {sizes}" if shapes else "nothing"

    return [
        f"{path} has aligned {in_words(found)}, --a2d-families and --a2d-aligner now ask for "
        f"{in_words(wanted)}: go on as it was, or with --reset-optimizer (epochs count on, and with them "
        "--a2d-decay), or begin at epoch 1 with its weights: --finetune-from-model and another --save-dir"
    ]


def _shapes(state: Dict[str, Any]) -> Dict[str, Tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in state.items()}


def _region_problems(regions: Optional[int], teacher: FrozenTeacher) -> List[str]:
    """Attention to regions can be compared where they are the same ones."""
    if regions == 1:
        return [
            "--a2d-families names fusion, but an image has one region here, to which all attention "
            "goes: leave fusion out, or use a store with --layer grid"
        ]
    others = sorted(teacher.picture_regions() - {regions})
    if regions is None or not others:
        return []
    return [
        f"--a2d-families names fusion, but the student sees {regions} regions of a picture, the teacher "
        f"{' and '.join(map(str, others))}: leave fusion out, or choose --image-backbone and "
        "--image-backbone-layer as the teacher's"
    ]


def _lambda_problems(criterion_cfg, option: Optional[str]) -> List[str]:
    """Lambda, and where its schedule leads, ask for a teacher or for none."""
    start, end = criterion_cfg.kd_lambda, criterion_cfg.kd_lambda_end
    smallest = start if end is None else min(start, end)
    which = "--kd-lambda" if smallest == start else "--kd-lambda-end"
    if option is None and smallest < 1:
        return [
            f"{which} {smallest} gives distillation a weight of {1 - smallest:g}, but there is no "
            "teacher: give --teacher-path or --teacher-cache, or --kd-lambda 1 for plain training."
        ]
    if option is not None and smallest == 1 and criterion_cfg.a2d_families is None:
        return [
            f"{option} has no effect with --kd-lambda 1: choose a smaller lambda, align attention "
            "(--a2d-families), or leave the teacher out."
        ]
    return []


def _unused_problems(criterion_cfg) -> List[str]:
    """Options of a distillation that never has any weight."""
    if criterion_cfg.kd_lambda != 1 or criterion_cfg.kd_lambda_end not in (None, 1):
        return []
    defaults = CRITERION_DATACLASS_REGISTRY[CRITERION]
    return [
        f"--{name.replace('_', '-')} {getattr(criterion_cfg, name)} has no effect with --kd-lambda 1: "
        "leave it out"
        for name in ("kd_temperature", "kd_divergence")
        if getattr(criterion_cfg, name) != getattr(defaults, name)
    ]


def _temperature_problems(
    temperature: float, cfg: MultimodalTranslationConfig, cache: TeacherCache, symbols: int
) -> List[str]:
    """A cache with a tail serves no temperature below 1."""
    if temperature >= 1 or cache.stamp.top_k == symbols:
        return []
    return [
        f"--kd-temperature {temperature:g} sharpens the teacher, of whom {cfg.teacher_cache} knows "
        f"only the best {cache.stamp.top_k} of {symbols} symbols: use --teacher-path, a cache of all "
        "symbols, or a temperature of at least 1."
    ]


def _family_problems(
    families: str,
    student_maps: Optional[Dict[str, int]],
    teacher: Optional[FrozenTeacher],
    related: bool,
) -> List[str]:
    """Attention can be aligned with that of a live teacher, which has it too."""
    if teacher is None:
        return [
            f"--a2d-families {families} needs a teacher that is asked where it looks: give "
            "--teacher-path; a cache knows its probabilities only"
        ]
    return family_problems(families.split(","), student_maps, teacher.map_counts(), related)
