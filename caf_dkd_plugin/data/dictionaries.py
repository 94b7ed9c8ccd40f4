"""Compare fairseq dictionaries by their symbols."""

import hashlib
from typing import List, Optional, Sequence

from fairseq.data import Dictionary


def symbols(dictionary: Dictionary) -> List[str]:
    """All symbols in the order of their indices."""
    return list(dictionary.symbols)


def symbols_sha256(dictionary: Dictionary) -> str:
    """SHA-256 over all symbols in their order, as hexadecimal digits."""
    return hashlib.sha256("\n".join(symbols(dictionary)).encode()).hexdigest()


def first_difference(one: Sequence[str], other: Sequence[str]) -> Optional[str]:
    """Where two symbol lists differ, in words; None when they are the same."""
    for index, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return f"symbol {index} is {a!r} in the first and {b!r} in the second"
    if len(one) != len(other):
        return f"the first has {len(one)} symbols, the second {len(other)}"
    return None
