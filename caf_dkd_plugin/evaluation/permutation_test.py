"""The paired permutation test: is the mean of paired differences other than zero by chance?"""

import itertools

import numpy as np

FLIPS = 10_000
"""random arrangements of the signs; where there are no more in all, each is tried once"""
AT_ONCE = 500
ROUNDING = 1e-9
"""by how much, relatively, sums of the same numbers in another order may differ"""


def sign_flip_p(differences: np.ndarray, seed: int) -> float:
    """Two-sided p of paired differences under the hypothesis that their signs are by chance.

    The share of arrangements of the signs whose sum is at least as far from zero as the observed one;
    with random arrangements the observed one counts among them (Phipson and Smyth 2010), so that p is
    never 0. Differences of zero say nothing; where all are zero, p is 1.

    Args:
        differences: (N,), one for each sentence.
        seed: of the random signs.
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[differences != 0]
    bound = abs(differences.sum()) * (1 - ROUNDING)
    if 2 ** len(differences) <= FLIPS:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(differences))))
        return float(np.mean(np.abs(signs @ differences) >= bound))
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in range(FLIPS // AT_ONCE):
        signs = rng.choice((-1.0, 1.0), size=(AT_ONCE, len(differences)))
        extreme += int(np.sum(np.abs(signs @ differences) >= bound))
    return (1 + extreme) / (1 + FLIPS)
