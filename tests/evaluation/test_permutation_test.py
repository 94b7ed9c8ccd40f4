import itertools

import numpy as np
import pytest

from caf_dkd_plugin.evaluation.permutation_test import FLIPS, sign_flip_p


def exhaustive(differences):
    arrangements = itertools.product(*((-each, each) for each in differences))
    return np.mean([abs(sum(each)) >= abs(sum(differences)) - 1e-9 for each in arrangements])


DIFFERENCES = [0.3, -0.1, 0.25, 0.7, -0.2, 0.1, 0.4, 0.05, -0.3, 0.6, -0.8, 0.35, 0.15, -0.45]


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_few_items_are_enumerated(count):
    assert sign_flip_p(DIFFERENCES[:count], 1) == exhaustive(DIFFERENCES[:count])


def test_random_flips_come_close_to_all_of_them():
    assert 2 ** len(DIFFERENCES) > FLIPS
    found = [sign_flip_p(DIFFERENCES, seed) for seed in range(5)]
    assert found == pytest.approx([exhaustive(DIFFERENCES)] * 5, abs=0.02)
    assert len(set(found)) > 1
    assert sign_flip_p(DIFFERENCES, 0) == found[0]


def test_the_sign_of_all_and_zeros_do_not_matter():
    many = np.random.default_rng(0).normal(0.1, 1, size=300)
    expected = sign_flip_p(many, 1)
    assert 0 < expected < 1
    assert sign_flip_p(-many, 1) == expected
    assert sign_flip_p([*many, 0, 0, 0], 1) == expected


def test_no_difference_and_a_clear_one():
    assert sign_flip_p(np.zeros(1000), 1) == 1
    assert sign_flip_p([], 1) == 1
    assert sign_flip_p(np.ones(1000), 1) == 1 / (1 + FLIPS)


def test_p_is_uniform_without_an_effect():
    rng = np.random.default_rng(0)
    found = [sign_flip_p(rng.normal(size=12), 1) for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
