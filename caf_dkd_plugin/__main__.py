"""``python -m caf_dkd_plugin`` prints the folder to give to fairseq's ``--user-dir``.

``python -m caf_dkd_plugin COMMAND ...`` runs one of the plugin's own commands.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Sequence

COMMANDS = {
    "average": ("checkpoints.average", "average the weights of checkpoints into one"),
    "evaluate": ("evaluation.evaluate", "score translations and compare systems"),
    "plot-attention": ("evaluation.plot_attention", "draw where a model looks in a photograph"),
    "image-awareness": ("evaluation.image_awareness", "measure whether a model looks at the image"),
    "compare-attention": (
        "evaluation.compare_attention",
        "measure whether models look where a teacher looks",
    ),
    "commute": ("evaluation.commute", "contrastive accuracy on a copy of CoMMuTE"),
}
"""name -> the module with its ``main(argv)``, imported when it is asked for, and what it does"""


def main(argv: Sequence[str]) -> int:
    """Run a command, or print the folder; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin",
        description="Without a command: print the folder to give to fairseq's --user-dir.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, purpose) in COMMANDS.items():
        commands.add_parser(name, help=purpose)
    command = parser.parse_args(argv[:1]).command  # what follows is for the command's own parser
    if command is None:
        print(Path(__file__).resolve().parent)
        return 0
    module, _ = COMMANDS[command]
    return importlib.import_module(f".{module}", __package__).main(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
