"""``fairseq-train --bf16`` on a CPU or a GPU: fairseq takes the flag for a sign of a TPU."""

import importlib.util
import logging
from argparse import Namespace

logger = logging.getLogger(__name__)


def without_tpu(settings) -> None:
    """Take back the TPU that fairseq-train has concluded from --bf16, where no TPU can be used.

    fairseq's parser sets ``tpu`` after ``bf16``, and its trainer then needs torch_xla. What it does in
    bfloat16 it does on any device.

    Args:
        settings: the parsed command line; what fairseq gives a preset otherwise is left alone.
    """
    if not isinstance(settings, Namespace) or not getattr(settings, "bf16", False):
        return
    if settings.tpu and importlib.util.find_spec("torch_xla") is None:
        settings.tpu = False
        logger.info("--bf16: torch_xla is not installed, so this is bfloat16 without a TPU")
