"""Programs of this project import this before fairseq, so that they say nothing but their own words.

The first `logging.basicConfig` of a process holds: modules of fairseq ask for INFO in theirs, one fork
for DEBUG. Whoever imports the plugin elsewhere, fairseq-train above all, keeps fairseq's logging.
"""

import logging
import warnings

logging.basicConfig(level=logging.WARNING)
warnings.filterwarnings(  # torch says it of fairseq's own code
    "ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning
)
