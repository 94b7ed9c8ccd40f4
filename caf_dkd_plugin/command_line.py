"""What the command lines of our own programs have in common."""

import argparse


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
