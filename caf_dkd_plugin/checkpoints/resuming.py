"""From which checkpoint a training will go on, if there is one."""

import os
from typing import Any, Dict, Optional

from .load import load_checkpoint

LAST = "checkpoint_last.pt"


def resumed_path(
    save_dir: str,
    restore_file: str,
    suffix: str,
    continue_once: Optional[str],
    finetune_from_model: Optional[str],
) -> Optional[str]:
    """The file that fairseq-train is about to load, or None when it starts afresh.

    Args:
        save_dir: its --save-dir.
        restore_file: its --restore-file; the default is looked for in `save_dir`.
        suffix: its --checkpoint-suffix, which is part of both names.
        continue_once, finetune_from_model: its options, which count where the default is not there.
    """
    name = restore_file.replace(".pt", f"{suffix}.pt")  # wherever that is, as fairseq does
    path = os.path.join(save_dir, name) if restore_file == LAST else name
    if restore_file == LAST and not os.path.isfile(path):
        path = continue_once or finetune_from_model or path
    return path if os.path.isfile(path) else None


def task_state(path: str) -> Dict[str, Any]:
    """What the task has saved in a checkpoint; empty for tasks that save nothing.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    return load_checkpoint(path).get("task_state", {})
