"""caf-dkd: multimodal translation with distillation, a plugin for stock fairseq.

Give this folder to any fairseq command as ``--user-dir``. Importing it registers

* the task ``multimodal_translation``,
* the architectures ``cross_modal_rnn`` and ``cross_modal_transformer`` and their presets,
* the criterion ``kd_label_smoothed_cross_entropy``,

and lets torch load safely what fairseq has saved (see :mod:`.checkpoints.allow_list`) or sends from
one process to the others (:mod:`.broadcast_classes`). From Python, :class:`Translator` translates
with a trained model.
"""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # so Python says while it looks for the module of `python -m`
    from . import quiet_start  # noqa: F401

from .broadcast_classes import allow_broadcast_classes
from .checkpoints.allow_list import allow_fairseq_classes

allow_fairseq_classes()
allow_broadcast_classes()

from .criterions import kd_label_smoothed_cross_entropy  # noqa: E402, F401
from .models import cross_modal_rnn, cross_modal_transformer  # noqa: E402, F401
from .tasks import multimodal_translation  # noqa: E402, F401
from .translator import Translator  # noqa: E402, F401
