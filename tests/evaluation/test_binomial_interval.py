import pytest

from caf_dkd_plugin.evaluation.binomial_interval import wilson_interval


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(right, count, low, high):
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=5e-5)


def test_it_is_symmetric_and_halves_count():
    low, high = wilson_interval(2.5, 10)
    assert wilson_interval(7.5, 10) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(2, 10)[0] < low < wilson_interval(3, 10)[0]
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
