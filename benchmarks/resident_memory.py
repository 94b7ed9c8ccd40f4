"""Memory of a training whose image store is ten times as large.

    python benchmarks/resident_memory.py [--quick] [--json FILE]

fairseq-train reads as many sentences from both, and of each store every image, of the small one each
several times. Its model is small, or it would hide what the images take. The pages of a file that is read
through a memory map count as resident though the system may drop them at any time; the second row leaves
them out.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, NamedTuple

if __name__ == "__main__":
    import start  # noqa: F401

from fairseq_training import ON_CPU, PLAIN, common_options, cross_modal_rnn, write_data
from made_up_images import write_store
from places import PLUGIN
from program import options_of, run_program
from rows import Bound, Found, Required, Row, Skipped
from sizes import Sizes

AT_MOST = Required(Bound.AT_MOST, 1.05)
QUESTION = "memory of a training"
WIDTH, SYMBOLS = 32, 1000
BETWEEN_LOOKS = 0.1
"""seconds"""
SPARE_BYTES = 2 * 2**30
"""that are left on the disk"""
MEGABYTE = 1024
"""in the unit of /proc, which is kB"""


class Peak(NamedTuple):
    """Megabytes that a process had at most."""

    resident: float
    own: float
    """without the pages of files"""


def measure(sizes: Sizes, scratch: Path) -> Found:
    """Two rows: all resident memory, and the process's own."""
    if not Path("/proc/self/status").exists():
        return [Skipped(QUESTION, "the system has no /proc")]
    counts = {"theirs": sizes.images, "ours": sizes.images * sizes.images_times}
    needed = 2 * sizes.regions * sizes.features * counts["ours"]  # float16
    free = shutil.disk_usage(scratch).free
    if free < needed + SPARE_BYTES:
        return [
            Skipped(
                QUESTION,
                f"{scratch.parent} has {free / 1e9:.1f} GB free and the larger store needs "
                f"{needed / 1e9:.1f} GB, with {SPARE_BYTES / 1e9:.1f} GB to spare; TMPDIR may name "
                "another folder",
            )
        ]
    small = sizes._replace(symbols=min(SYMBOLS, sizes.symbols), sentences=counts["ours"])
    peaks: Dict[str, Peak] = {}
    for side, images in counts.items():
        folder = scratch / side
        folder.mkdir()
        store = write_store(folder / "images.h5", images, sizes.regions, sizes.features)
        data = write_data(folder / "data", small, images)
        words = [*common_options(data, small), *PLAIN, *ON_CPU, *cross_modal_rnn(WIDTH)]
        peaks[side] = peak_of_training([*words, "--image-h5", str(store)])
        shutil.rmtree(folder)
    return [
        Row(
            question=question,
            ours_name=f"{counts['ours']:,} images",
            theirs_name=f"{counts['theirs']:,} images",
            unit="MB",
            ours=[getattr(peaks["ours"], kind)],
            theirs=[getattr(peaks["theirs"], kind)],
            required=AT_MOST,
        )
        for question, kind in (
            (f"{QUESTION}, resident", "resident"),
            (f"{QUESTION}, without pages of files", "own"),
        )
    ]


def peak_of_training(words) -> Peak:
    """Run fairseq-train for an epoch.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    once = ["--max-epoch", "1", "--no-save", "--disable-validation"]
    once += ["--data-buffer-size", "0"]  # how many mini-batches wait in it is a matter of timing
    plugin = ["--user-dir", str(PLUGIN)]
    command = [sys.executable, "-m", "fairseq_cli.train", *words, *once, *plugin]
    log = Path(words[0]) / "training.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    peak = Peak(0, 0)
    while process.poll() is None:
        peak = Peak(*map(max, peak, _now(process.pid)))
        time.sleep(BETWEEN_LOOKS)
    if process.returncode != 0:
        raise RuntimeError(f"fairseq-train failed: {log.read_text()[-2000:]}")
    return peak


def _now(pid: int) -> Peak:
    """What Linux says of a process; zero where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return Peak(0, 0)
    facts = dict(line.split(":", 1) for line in lines)
    # A process that is ending has no memory any more.
    total, own = (facts.get(name, "0 kB").split()[0] for name in ("VmHWM", "RssAnon"))
    return Peak(int(total) / MEGABYTE, int(own) / MEGABYTE)


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
