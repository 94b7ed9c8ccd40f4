import pytest
import torch

from caf_dkd_plugin.modules.masked_attention import masked_attention, masked_softmax

SHAPES = [  # B, X, K, h, d_k, d_v
    (1, 1, 1, 1, 1, 1),
    (2, 3, 5, 1, 4, 4),
    (3, 2, 4, 2, 3, 5),
    (4, 5, 7, 4, 2, 1),
    (2, 6, 49, 3, 8, 2),
]


@pytest.fixture
def qkv():
    """(2, 3, 8), (2, 5, 8), (2, 5, 8): random query, key and value that want gradients."""
    torch.manual_seed(0)
    return tuple(torch.randn(2, n, 8, requires_grad=True) for n in (3, 5, 5))


MASK = torch.tensor([[True, False, True, True, False], [True, True, False, False, False]])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(shape, seed, random_mask, attention_by_loops):
    torch.manual_seed(seed)
    b, x, k, h, d_k, d_v = shape
    query, key = 2 * torch.randn(b, x, h * d_k), 2 * torch.randn(b, k, h * d_k)
    value, mask = torch.randn(b, k, h * d_v), random_mask(b, k, allow_empty=True)
    context, weights = masked_attention(query, key, value, mask, h, dropout=0.0)
    expected_context, expected_weights = attention_by_loops(query, key, value, mask, h)
    torch.testing.assert_close(context.double(), expected_context, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.double(), expected_weights, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_rows_sum_to_one_and_masked_keys_get_exactly_zero(seed, random_mask):
    torch.manual_seed(seed)
    mask = random_mask(4, 6)
    query, key = 5 * torch.randn(4, 3, 8), 5 * torch.randn(4, 6, 8)
    _, weights = masked_attention(query, key, key, mask, heads=2, dropout=0.0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 2, 3))
    assert (weights.masked_select(~mask[:, None, None, :]) == 0).all()
    assert (weights >= 0).all()


@pytest.mark.parametrize("content", [0.0, -7.0, 1e30, -1e30])
def test_the_content_of_masked_keys_changes_neither_result_nor_gradients(qkv, content):
    def run(query, key, value):
        context, weights = masked_attention(query, key, value, MASK, heads=2, dropout=0.0)
        weighted = (context * torch.arange(1.0, 9.0)).sum()
        return context, weights, torch.autograd.grad(weighted, (query, key, value))

    query, key, value = qkv
    hidden = [x.detach().masked_fill(~MASK[..., None], content).requires_grad_() for x in qkv[1:]]
    context, weights, gradients = run(query, key, value)
    other_context, other_weights, other_gradients = run(query, *hidden)
    assert torch.equal(context, other_context)
    assert torch.equal(weights, other_weights)
    for one, other in zip(gradients, other_gradients):
        torch.testing.assert_close(one, other)


def test_a_row_without_keys_gives_zeros_and_zero_gradients(qkv):
    nothing = torch.zeros_like(MASK)
    context, weights = masked_attention(*qkv, nothing, heads=2, dropout=0.0)
    assert (context == 0).all()
    assert (weights == 0).all()
    for gradient in torch.autograd.grad(context.sum() + weights.sum(), qkv):
        assert (gradient == 0).all()


def test_one_row_without_keys_leaves_the_gradients_of_the_others_finite(qkv):
    mask = MASK.clone()
    mask[0] = False
    context, _ = masked_attention(*qkv, mask, heads=2, dropout=0.0)
    for gradient in torch.autograd.grad(context.pow(2).sum(), qkv):
        assert gradient.isfinite().all()
        assert (gradient[0] == 0).all()
        assert gradient[1].abs().sum() > 0


def test_the_order_of_the_keys_does_not_matter(qkv):
    query, key, value = qkv
    order = torch.tensor([3, 1, 4, 0, 2])
    context, weights = masked_attention(query, key, value, MASK, heads=2, dropout=0.0)
    other_context, other_weights = masked_attention(
        query, key[:, order], value[:, order], MASK[:, order], heads=2, dropout=0.0
    )
    torch.testing.assert_close(other_context, context)
    torch.testing.assert_close(other_weights, weights[..., order])


def test_dropout_falls_on_the_context_and_not_on_the_returned_weights():
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 4), torch.randn(2, 50, 4)
    one_hot = torch.eye(50).expand(2, 50, 50)  # as value: the context is the dropped weights
    mask = torch.ones(2, 50, dtype=torch.bool)
    _, expected = masked_attention(query, key, one_hot, mask, heads=1, dropout=0.0)
    context, weights = masked_attention(query, key, one_hot, mask, heads=1, dropout=0.5)
    assert torch.equal(weights, expected)
    kept = context != 0
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(context[kept], 2 * weights[:, 0][kept])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_for_large_scores(dtype):
    """q k is 102 400, more than float16 holds, but q k / sqrt(d_k) is 6 400."""
    query = torch.full((1, 1, 256), 20.0, dtype=dtype, requires_grad=True)
    key = torch.stack([torch.full((256,), 20.0), torch.zeros(256)])[None].to(dtype)
    mask = torch.tensor([[True, True]])
    context, weights = masked_attention(query, key, key, mask, heads=1, dropout=0.0)
    assert context.dtype == dtype
    assert weights.dtype == torch.float32
    assert weights.flatten().tolist() == [1.0, 0.0]
    context.sum().backward()
    assert query.grad.isfinite().all()


def test_masked_softmax_broadcasts_its_mask_and_survives_infinite_masked_scores():
    scores = torch.tensor([[1.0, float("inf"), 1.0], [3.0, float("nan"), 3.0]])
    weights = masked_softmax(scores, torch.tensor([True, False, True]))
    assert weights.tolist() == [[0.5, 0.0, 0.5]] * 2


@pytest.mark.parametrize("logit", [-5.0, -9.0, -14.0])
def test_a_small_weight_has_its_gradient_in_half_precision(logit):
    """Of the loss -128 log w, as aligned attention has it with a loss scale of 128: 128 / w is beyond
    float16."""

    def gradient(dtype):
        query = torch.tensor([[[logit]]], dtype=dtype, requires_grad=True)
        key = torch.tensor([[[1.0], [0.0]]], dtype=dtype)
        _, weights = masked_attention(
            query, key, key, torch.ones(1, 2, dtype=torch.bool), heads=1, dropout=0.0, scale=1.0
        )
        (-128 * weights[..., 0].log()).sum().backward()
        return query.grad

    expected = gradient(torch.float32)
    assert expected.item() == pytest.approx(-128, rel=0.01)
    torch.testing.assert_close(gradient(torch.float16).float(), expected, rtol=0.002, atol=0)
