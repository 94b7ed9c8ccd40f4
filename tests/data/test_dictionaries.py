import pytest
from fairseq.data import Dictionary

from caf_dkd_plugin.data.dictionaries import first_difference, symbols


def test_symbols_stand_in_the_order_of_their_indices():
    dictionary = Dictionary()
    for symbol in ("b", "a", "b"):
        dictionary.add_symbol(symbol)
    assert symbols(dictionary) == ["<s>", "<pad>", "</s>", "<unk>", "b", "a"]
    assert symbols(dictionary) is not dictionary.symbols


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (["a", "b"], ["a", "b"], None),
        ([], [], None),
        (["a", "b"], ["a", "c"], "symbol 1 is 'b' in the first and 'c' in the second"),
        (["a", "b"], ["b", "a"], "symbol 0 is 'a' in the first and 'b' in the second"),
        (["a"], ["a", "b"], "the first has 1 symbols, the second 2"),
        (["a", "b"], ["a"], "the first has 2 symbols, the second 1"),
    ],
)
def test_the_first_difference_is_named(one, other, difference):
    assert first_difference(one, other) == difference
