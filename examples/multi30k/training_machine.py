"""On what a model was trained, and whether two were trained on the same."""

from typing import List, Mapping

DECISIVE = ("torch", "fairseq", "fairseq-fixed", "caf-dkd")
"""packages whose versions decide what comes out of a training"""


def machine_differences(before: Mapping, now: Mapping) -> List[str]:
    """In words. The number of threads, which --jobs changes, is none.

    Args:
        before, now: with "versions" and "device", as a model's JSON has them.
    """
    found = []
    for name in DECISIVE:
        old, new = (one["versions"].get(name, "none") for one in (before, now))
        if old != new:
            found.append(f"{name} {old} became {name} {new}")
    old, new = (one["device"].partition(", ")[0] for one in (before, now))
    if old != new:
        found.append(f"the device {old} became {new}")
    return found
