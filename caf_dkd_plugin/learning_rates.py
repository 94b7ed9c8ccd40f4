"""Some weights learn at another rate than the rest, with any of fairseq's optimisers and schedules."""

import contextlib
from typing import Any, Dict, Iterator, List, Mapping

ParamGroups = List[Dict[str, Any]]


@contextlib.contextmanager
def scaled_learning_rates(groups: ParamGroups, factors: Mapping[str, float]) -> Iterator[None]:
    """While it lasts, parameters with a `param_group` of `factors` have that multiple of the rate.

    fairseq's schedules set one rate for all groups of an optimiser, and its checkpoints expect as
    many groups as there were; so the groups are divided for one step and put together again. What
    an optimiser remembers of a parameter belongs to the parameter and is not touched.

    Args:
        groups: of a torch optimiser, changed in place.
        factors: of the learning rate, by the attribute `param_group` of a parameter.
    """
    whole = groups[:]
    parts = [_divide(group, factors) for group in whole]
    groups[:] = [part for divided in parts for part in divided]
    try:
        yield
    finally:
        for group, divided in zip(whole, parts):
            # an optimiser may count its steps here; each part was counted alike
            kept = {"params": group["params"], "lr": group["lr"]}
            group.update({**divided[0], **kept})
            if "lr_old" in group:  # fairseq's NAG: the rate of its last step
                group["lr_old"] = group["lr"]
        groups[:] = whole


def _divide(group: Dict[str, Any], factors: Mapping[str, float]) -> ParamGroups:
    by_factor: Dict[float, List[Any]] = {}
    for parameter in group["params"]:
        factor = factors.get(getattr(parameter, "param_group", None), 1.0)
        by_factor.setdefault(factor, []).append(parameter)
    rates = [name for name in ("lr", "lr_old") if name in group]
    return [
        {**group, "params": parameters, **{name: group[name] * factor for name in rates}}
        for factor, parameters in by_factor.items()
    ]
