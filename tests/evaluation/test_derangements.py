from collections import Counter

import numpy as np
import pytest

from caf_dkd_plugin.data.split_images import NO_IMAGE
from caf_dkd_plugin.evaluation.derangements import Conditions, derange, image_conditions

IDS = {
    "all different": [f"{number}.jpg" for number in range(30)],
    "five sentences each": [f"{number // 5}.jpg" for number in range(30)],
    "one has half": ["a"] * 15 + [f"{number}.jpg" for number in range(15)],
    "two": ["a", "b"],
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
@pytest.mark.parametrize("seed", range(5))
def test_nobody_keeps_an_image_and_each_is_used_as_often(ids, seed):
    places = derange(ids, [seed])
    given = [ids[place] for place in places]
    assert sorted(places) == list(range(len(ids)))
    assert all(image != own for image, own in zip(given, ids))


def test_the_order_of_the_sentences_does_not_bind_their_images():
    """Over many seeds every sentence gets every other one's image, and about as often."""
    found = Counter()
    for seed in range(2000):
        found.update(enumerate(derange(list("abcde"), [seed]).tolist()))
    assert found.keys() == {(a, b) for a in range(5) for b in range(5) if a != b}
    assert min(found.values()) > 400


def test_an_image_of_more_than_half_of_the_sentences_is_refused():
    with pytest.raises(ValueError, match="2 of 3 sentences have the same image"):
        derange(["a", "a", "b"], [1])


def test_conditions_of_a_split():
    rows = np.array([7, NO_IMAGE, 3, 5, NO_IMAGE, 3])
    found = image_conditions(rows, 3, seed=1)
    assert np.array_equal(found.right, rows)
    assert (found.none == NO_IMAGE).all()
    assert len(found.deranged) == 3
    for wrong in found.deranged:
        assert np.array_equal(wrong == NO_IMAGE, rows == NO_IMAGE)
        assert sorted(wrong) == sorted(rows)
        assert not (wrong == rows)[rows != NO_IMAGE].any()


def test_each_derangement_and_each_seed_has_its_own_order():
    rows = np.arange(50)

    def deranged(seed):
        return [tuple(wrong) for wrong in image_conditions(rows, 3, seed).deranged]

    assert deranged(1) == deranged(1)
    assert len({*deranged(1), *deranged(2)}) == 6


def test_conditions_are_mapped_one_by_one():
    assert Conditions(1, [2, 3], 4).map(str) == Conditions("1", ["2", "3"], "4")
