"""How far the share found in a sample may be from the true one."""

import math
from typing import Tuple

Z = 1.959963984540054
"""quantile of the normal distribution, for an interval of 95 %"""


def wilson_interval(right: float, count: int) -> Tuple[float, float]:
    """Wilson's score interval (1927) of 95 % for a share.

    Args:
        right: how many are right, of
        count: this many, at least one.

    Returns:
        its bounds, between 0 and 1.
    """
    share = right / count
    middle = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
