"""How the commands end that measure something: figures for people, and for programs."""

import argparse
from typing import Any, Callable, Dict

from ..problems import print_problems
from ..whole_file import write_json


def tell(
    args: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Dict[str, Any]],
    table: Callable[[Dict[str, Any]], str],
) -> int:
    """Measure, print the table, and with --json write the figures; or print all problems.

    Args:
        args: the command line, with `json`, a path or None.
        measure: gives the figures; its ValueError or OSError has one problem a line.
        table: makes text for people of them.

    Returns:
        the exit code.
    """
    try:
        found = measure(args)
    except (ValueError, OSError) as error:
        print_problems(error)
        return 1
    print(table(found))
    if args.json is not None:
        write_json(args.json, found)
        print(f"wrote {args.json}")
    return 0
