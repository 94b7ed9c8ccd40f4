"""What can be wrong between a teacher and the criterion that is to learn from it."""

from typing import Dict, List, Optional

from ...data.teacher_cache import TeacherCache
from ...distillation.attention_alignment import family_problems
from ...distillation.teacher import FrozenTeacher
from .config import MultimodalTranslationConfig

CRITERION = "kd_label_smoothed_cross_entropy"


def teacher_option(
    teacher: Optional[FrozenTeacher], cache: Optional[TeacherCache]
) -> Optional[str]:
    """By which option there is a teacher, if there is one."""
    if teacher is not None:
        return "--teacher-path"
    return "--teacher-cache" if cache is not None else None


def criterion_problems(
    cfg: MultimodalTranslationConfig,
    criterion_cfg,
    teacher: Optional[FrozenTeacher],
    cache: Optional[TeacherCache],
    symbols: int,
    student_maps: Optional[Dict[str, int]],
    one_region: bool,
) -> List[str]:
    """What is wrong with the criterion's settings, one line each.

    Args:
        cfg: the task's settings.
        criterion_cfg: any criterion's.
        teacher: the live one, if any.
        cache: a teacher's, if any.
        symbols: of the target dictionary.
        student_maps: of each family of attention that the student has the number of maps; None: it
            gives none.
        one_region: whether an image is one vector, so that attention to it has nothing to choose.
    """
    option, name = teacher_option(teacher, cache), criterion_cfg._name
    if name != CRITERION:
        return (
            [
                f"{option} has no effect with --criterion {name}: use --criterion {CRITERION}, or "
                "leave the teacher out."
            ]
            if option is not None
            else []
        )
    found = _lambda_problems(criterion_cfg, option)
    if cache is not None:
        found += _temperature_problems(criterion_cfg.kd_temperature, cfg, cache, symbols)
    if criterion_cfg.a2d_families is not None:
        related = cfg.teacher_source_lang is not None
        found += _family_problems(criterion_cfg.a2d_families, student_maps, teacher, related)
        if one_region and "fusion" in criterion_cfg.a2d_families.split(","):
            found.append(
                "--a2d-families names fusion, but an image has one region here, to which all attention "
                "goes: leave fusion out, or use a store with --layer grid"
            )
    return found


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
