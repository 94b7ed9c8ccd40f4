import pytest
import torch

from caf_dkd_plugin.modules.cross_modal_fusion import BOTH, TEXT_TO_IMAGE, CrossModalFusion

B, S, R, TEXT, IMAGE, ATTENTION, FFN = 3, 4, 5, 6, 10, 12, 7
DIRECTIONS = (TEXT_TO_IMAGE, BOTH)


def build(
    heads=2, direction=TEXT_TO_IMAGE, normalize_image=False, residual=False, dropout=0.0, seed=1
):
    torch.manual_seed(seed)
    return CrossModalFusion(
        TEXT, IMAGE, ATTENTION, heads, FFN, direction, normalize_image, residual, dropout
    )


@pytest.fixture
def batch(random_mask):
    """Text, its mask, regions, their mask; the last sentence has no image."""
    torch.manual_seed(0)
    image_mask = random_mask(B, R)
    image_mask[-1] = False
    return torch.randn(B, S, TEXT), random_mask(B, S), torch.randn(B, R, IMAGE), image_mask


def ffn(module, text, context):
    """W2 relu(W1 [X ; A] + b1) + b2, W1 cut in two."""
    first, last = module.ffn[0], module.ffn[3]
    w_text, w_context = first.weight.split([TEXT, TEXT], dim=1)
    hidden = (text @ w_text.T + context @ w_context.T + first.bias).clamp(min=0)
    return hidden @ last.weight.T + last.bias


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("normalize_image", [False, True])
def test_is_the_formula(heads, direction, residual, normalize_image, batch, attention_by_loops):
    def attend(module, queries, items, mask):
        query, key, value = (
            x @ projection.weight.T + projection.bias
            for x, projection in (
                (queries, module.query),
                (items, module.key),
                (items, module.value),
            )
        )
        context, weights = attention_by_loops(query, key, value, mask, heads)
        return context @ module.output.weight.T, weights

    module = build(heads, direction, normalize_image, residual).double()
    text, text_mask, image, image_mask = (x.double() if x.is_floating_point() else x for x in batch)
    regions = image
    if normalize_image:
        centred = image - image.mean(-1, keepdim=True)
        regions = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    if direction == BOTH:
        regions = regions + attend(module.image_to_text, regions, text, text_mask)[0]
    context, expected_weights = attend(module.text_to_image, text, regions, image_mask)
    expected = ffn(module, text, context) + (text if residual else 0)

    fused, weights = module(text, text_mask, image, image_mask)
    torch.testing.assert_close(fused, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_without_an_image_the_context_is_zero(direction, batch):
    text, text_mask, image, _ = batch
    module = build(direction=direction)
    nothing = torch.zeros(B, R, dtype=torch.bool)
    fused, weights = module(text, text_mask, image, nothing)
    torch.testing.assert_close(fused, ffn(module, text, torch.zeros_like(text)))
    assert (weights == 0).all()


@pytest.mark.parametrize("normalize_image", [False, True])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("content", [0.0, 3.0, 1e30])
def test_masked_regions_do_not_matter(direction, normalize_image, content, batch):
    text, text_mask, image, image_mask = batch
    module = build(direction=direction, normalize_image=normalize_image)
    hidden = image.masked_fill(~image_mask[..., None], content)

    def run(regions):
        module.zero_grad()
        fused, _ = module(text, text_mask, regions, image_mask)
        fused.pow(2).sum().backward()
        return fused, [p.grad.clone() for p in module.parameters()]

    (fused, gradients), (other, other_gradients) = run(image), run(hidden)
    torch.testing.assert_close(other, fused)
    for one, two in zip(gradients, other_gradients):
        torch.testing.assert_close(two, one)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_padded_tokens_do_not_matter_to_the_others(direction, batch):
    text, text_mask, image, image_mask = batch
    module = build(direction=direction)
    fused, _ = module(text, text_mask, image, image_mask)
    other, _ = module(text.masked_fill(~text_mask[..., None], 1e3), text_mask, image, image_mask)
    torch.testing.assert_close(other[text_mask], fused[text_mask])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_order_of_the_regions_does_not_matter(direction, batch):
    text, text_mask, image, image_mask = batch
    order = torch.randperm(R)
    module = build(direction=direction)
    fused, weights = module(text, text_mask, image, image_mask)
    other, other_weights = module(text, text_mask, image[:, order], image_mask[:, order])
    torch.testing.assert_close(other, fused)
    torch.testing.assert_close(other_weights, weights[..., order])


def test_only_with_both_directions_a_token_sees_the_others(batch):
    text, text_mask, image, image_mask = batch
    text_mask[:] = True
    image_mask[:] = True
    changed = text.clone()
    changed[:, 0] += 1
    for direction in DIRECTIONS:
        module = build(direction=direction)
        fused, _ = module(text, text_mask, image, image_mask)
        other, _ = module(changed, text_mask, image, image_mask)
        assert torch.allclose(fused[:, 1:], other[:, 1:]) == (direction == TEXT_TO_IMAGE)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_batch_without_images_has_the_same_graph(direction, batch):
    """Data-parallel ranks need a gradient, if a zero one, for the same parameters."""
    text, text_mask, image, _ = batch
    module = build(direction=direction)
    fused, _ = module(text, text_mask, image, torch.zeros(B, R, dtype=torch.bool))
    fused.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert ("ffn" in name) == bool(parameter.grad.abs().sum()), name


@pytest.mark.parametrize("part", ["image_to_text", "text_to_image"])
def test_the_attention_of_each_direction_has_the_dropout(part):
    module = build(dropout=0.5, direction=BOTH)
    assert getattr(module, part).dropout.rate_now == 0.5


@pytest.mark.parametrize(("training", "random"), [(True, True), (False, False)])
@pytest.mark.parametrize("with_images", [True, False])
def test_dropout_is_active_in_training_only(batch, training, random, with_images):
    """Without images only the FFN's is left."""
    module = build(dropout=0.5).train(training)
    text, text_mask, image, image_mask = batch
    arguments = text, text_mask, image, image_mask & with_images
    assert torch.equal(module(*arguments)[0], module(*arguments)[0]) != random


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="5 attention heads cannot share a width of 12"):
        build(heads=5)
