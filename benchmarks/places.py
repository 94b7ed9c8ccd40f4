"""Where things are in this checkout."""

from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
PLUGIN = ROOT / "caf_dkd_plugin"
PREPROCESS = ROOT / "preprocess"
