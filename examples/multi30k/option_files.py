"""Option files: flags of fairseq-train, one a line, with its value if it has one.

No value has spaces, quotation marks or a ``#``, after which a comment follows, so that a shell reads
the same words::

    fairseq-train DATA --user-dir caf_dkd_plugin --task multimodal_translation ... \\
        $(sed 's/#.*//' examples/multi30k/configs/1k-undistilled.options)
"""

import difflib
import itertools
from pathlib import Path
from typing import List, Optional, Sequence

CONFIGS = Path(__file__).resolve().parent / "configs"


def read_options(path: Path) -> List[str]:
    """The words of an option file.

    Raises:
        ValueError: it cannot be read or is not as described above; one line for each problem.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        names = sorted(other.name for other in path.parent.glob("*.options"))
        near = difflib.get_close_matches(path.name, names, cutoff=0.8)
        there = (
            f"nearest to it are {', '.join(near)}"
            if near
            else f"{path.parent} has {', '.join(names) or 'no option files'}"
        )
        raise ValueError(f"{path} cannot be read: there is no such file; {there}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    words, problems = [], []
    for number, line in enumerate(lines, 1):
        flag_and_value = line.partition("#")[0].split()
        words += flag_and_value
        if not flag_and_value:
            continue
        if not flag_and_value[0].startswith("--") or len(flag_and_value) > 2:
            problems.append(
                f"{path}, line {number}: {line!r} is not one flag with at most one value; write one "
                "flag a line, and no spaces within its value"
            )
        elif "=" in flag_and_value[0]:
            problems.append(f"{path}, line {number}: {line!r} has a = for a space after the flag")
    if problems:
        raise ValueError("\n".join(problems))
    return words


def value_of(words: Sequence[str], flag: str) -> Optional[str]:
    """What the last of the flags with this name is given; None where there is none."""
    found = [value for word, value in itertools.pairwise(words) if word == flag]
    return found[-1] if found else None
