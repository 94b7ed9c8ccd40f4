"""What the command lines of our own programs have in common."""

import argparse
import tempfile
from pathlib import Path
from typing import List


def positive(text: str) -> int:
    """A whole number above 0, as argparse's `type`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def not_negative(text: str) -> int:
    """A whole number, 0 or above, as argparse's `type`."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is a negative number")
    return number


def usable_device(text: str) -> str:
    """Where torch can compute, such as cpu or cuda:1, as argparse's `type`."""
    import torch  # takes seconds, which a command without a device need not wait

    try:
        torch.zeros(1, device=text).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # unknown, or not on this machine
        reason = str(error).strip().splitlines()[0].partition(". ")[0]
        raise argparse.ArgumentTypeError(f"{text} cannot be used: {reason}") from error
    return text


def destination_problems(option: str, path: Path) -> List[str]:
    """Why a file cannot be written, to be said before the work; `option` names it."""
    if path.is_dir():
        return [f"{option} {path} is a folder; name the file to write"]
    if not path.parent.is_dir():
        return [f"{option} {path}: there is no folder {path.parent}"]
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        return [f"{option} {path}: {path.parent} cannot be written to: {error.strerror}"]
    return []
