"""What every program here does before it imports anything else: one thread, no log, this checkout.

Two threads on a core that other work shares give ratios that are pure contention.
"""

import os
import runpy
import sys
import warnings

from places import PLUGIN, PREPROCESS, ROOT

os.environ["OMP_NUM_THREADS"] = "1"  # of the programs that are started from here, too
sys.path.insert(0, str(ROOT))
sys.path.insert(1, str(PREPROCESS))
runpy.run_path(str(PLUGIN / "quiet_start.py"))
for category in (UserWarning, FutureWarning):
    warnings.simplefilter("ignore", category)  # of fairseq's own calls to torch and hydra
