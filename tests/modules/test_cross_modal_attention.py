import math

import pytest
import torch

from caf_dkd_plugin.modules.cross_modal_attention import CrossModalAttention


@pytest.fixture
def batch(random_mask):
    """Queries (3, 4, 6), items (3, 5, 10) and their mask (3, 5)."""
    torch.manual_seed(0)
    return torch.randn(3, 4, 6), torch.randn(3, 5, 10), random_mask(3, 5)


def attention(heads=2, dropout=0.0):
    torch.manual_seed(1)
    return CrossModalAttention(
        query_size=6, key_size=10, attention_size=12, heads=heads, dropout=dropout
    )


@pytest.mark.parametrize("heads", [1, 2, 3, 12])
def test_is_loop_attention_between_its_projections(heads, batch, attention_by_loops):
    queries, items, mask = batch
    module = attention(heads).double()
    queries, items = queries.double(), items.double()
    context, weights = module(queries, items, mask)
    expected, expected_weights = attention_by_loops(
        queries @ module.query.weight.T + module.query.bias,
        items @ module.key.weight.T + module.key.bias,
        items @ module.value.weight.T + module.value.bias,
        mask,
        heads,
    )
    assert context.shape == (3, 4, 6)
    assert weights.shape == (3, heads, 4, 5)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(context, expected @ module.output.weight.T, atol=1e-6, rtol=1e-6)


def test_one_head_is_the_arithmetic_of_the_papers_listing(batch):
    """Scores divided by the root of the hidden size, softmax over the regions, no mask."""
    queries, items, _ = batch
    module = attention(heads=1)
    hidden_size = module.query.out_features
    scores = module.query(queries) @ module.key(items).transpose(-2, -1) / math.sqrt(hidden_size)
    weights = torch.softmax(scores, dim=-1)
    listing = module.output(weights @ module.value(items))
    context, returned = module(queries, items, torch.ones(3, 5, dtype=torch.bool))
    torch.testing.assert_close(context, listing)
    torch.testing.assert_close(returned[:, 0], weights)


def test_without_any_item_the_context_is_zero(batch):
    queries, items, mask = batch
    mask[1] = False
    context, weights = attention()(queries, items, mask)
    assert (context[1] == 0).all()
    assert (weights[1] == 0).all()
    assert (context[[0, 2]] != 0).all()


@pytest.mark.parametrize(("training", "random"), [(True, True), (False, False)])
def test_dropout_is_active_in_training_only(batch, training, random):
    module = attention(dropout=0.5).train(training)
    first, first_weights = module(*batch)
    second, second_weights = module(*batch)
    assert torch.equal(first, second) != random
    assert torch.equal(first_weights, second_weights)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="5 attention heads cannot share a width of 12"):
        attention(heads=5)
