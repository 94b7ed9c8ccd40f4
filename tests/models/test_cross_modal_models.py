"""What holds of every cross-modal architecture.

Letters: B sentences, S source tokens, T target tokens, R image regions, D feature size.
"""

import copy

import pytest
import torch

PAD, EOS = 1, 2
R, D = 3, 10

IMAGES = {"image_feature_size": D}
RNN, TRANSFORMER = {"arch": "cross_modal_rnn"}, {"arch": "cross_modal_transformer"}
SETTINGS = {
    "gru-text": RNN,
    "lstm-text": {**RNN, "rnn_cell": "lstm", "decoder_layers": 2},
    "gru-text-feeding": {**RNN, "decoder_input_feeding": True},
    "gru-images": {
        **RNN, **IMAGES, "encoder_layers": 2, "decoder_layers": 3, "fusion_residual": True
    },
    "lstm-images-both": {
        **RNN, **IMAGES, "rnn_cell": "lstm", "encoder_layers": 3, "decoder_layers": 2,
        "fusion_direction": "both", "fusion_normalize_image": True,
    },
    "gru-images-no-encoder": {**RNN, **IMAGES, "encoder_layers": 0, "fusion_heads": 1},
    "lstm-images-both-no-encoder": {
        **RNN, **IMAGES, "rnn_cell": "lstm", "encoder_layers": 0, "fusion_direction": "both"
    },
    "lstm-images-feeding": {
        **RNN, **IMAGES, "rnn_cell": "lstm", "decoder_layers": 2, "decoder_input_feeding": True
    },
    "transformer-text": TRANSFORMER,
    "transformer-images": {**TRANSFORMER, **IMAGES, "fusion_heads": 1},
    "transformer-images-both": {
        **TRANSFORMER, **IMAGES, "fusion_direction": "both", "fusion_normalize_image": True,
        "fusion_residual": True, "encoder_normalize_before": True, "decoder_normalize_before": True,
    },
}  # fmt: skip
ALL = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
WITH_IMAGES = pytest.mark.parametrize(
    "settings",
    [pytest.param(s, id=name) for name, s in SETTINGS.items() if s.keys() & IMAGES],
)
BOTH = pytest.mark.parametrize("arch", ["cross_modal_rnn", "cross_modal_transformer"])
CROSS_HEADS = {"cross_modal_rnn": 2, "cross_modal_transformer": 3}
"""of each layer of the decoder"""
ONE_WIDTH = {"decoder_embed_dim": 8, "decoder_attention_heads": 2}
"""that of the source embeddings"""


# -- an item and its neighbours -------------------------------------------------------------------


@ALL
def test_an_item_alone_is_what_it_is_in_a_batch(settings, items, build, logits_of, assert_close):
    model = build(settings)
    together = logits_of(model, items)
    for item, logits in zip(items, together):
        assert_close(logits_of(model, [item]), [logits])


@ALL
def test_the_order_of_the_batch_does_not_matter(settings, items, build, logits_of, assert_close):
    model = build(settings)
    assert_close(logits_of(model, items[::-1])[::-1], logits_of(model, items))


@ALL
def test_extra_pad_columns_do_not_matter(settings, items, build, logits_of, assert_close):
    model = build(settings)
    expected = logits_of(model, items)
    assert_close(logits_of(model, items, source_columns=3), expected)
    assert_close(logits_of(model, items, target_columns=2), expected)


@ALL
def test_the_source_lengths_are_counted_and_not_taken(settings, items, build, collate):
    model = build(settings)
    batch = collate(items)
    expected, _ = model(**batch)
    batch["src_lengths"] = None
    assert torch.equal(model(**batch)[0], expected)


@WITH_IMAGES
def test_the_images_of_others_do_not_matter(settings, items, build, logits_of, assert_close):
    model = build(settings)
    expected = logits_of(model, items)
    for present in (True, False):
        changed = [
            items[0],
            *(
                item._replace(features=torch.randn(R, D), regions=torch.full((R,), present))
                for item in items[1:]
            ),
        ]
        assert_close(logits_of(model, changed)[0], expected[0])


@WITH_IMAGES
def test_a_missing_image_is_as_if_there_were_no_images_at_all(
    settings, items, build, logits_of, assert_close
):
    model = build(settings)
    assert_close(logits_of(model, items)[2], logits_of(model, items, images=False)[2])
    hidden = [item._replace(regions=torch.zeros(R, dtype=torch.bool)) for item in items]
    assert_close(logits_of(model, hidden), logits_of(model, items, images=False))


@WITH_IMAGES
def test_hidden_features_do_not_matter(settings, items, build, logits_of, assert_close):
    model = build(settings)
    changed = [
        item._replace(features=item.features.masked_fill(~item.regions[:, None], 1e6))
        for item in items
    ]
    assert_close(logits_of(model, changed), logits_of(model, items))


@WITH_IMAGES
def test_a_visible_image_matters(settings, items, build, logits_of):
    model = build(settings)
    changed = [item._replace(features=item.features.flip(-1)) for item in items]
    differences = [
        (one - other).abs().max()
        for one, other in zip(logits_of(model, items), logits_of(model, changed))
    ]
    assert differences[2] < 1e-5  # it has none
    assert min(differences[:2] + differences[3:]) > 1e-3


@BOTH
def test_a_text_model_does_not_read_images(arch, items, build, logits_of, assert_close):
    model = build({"arch": arch})
    assert model.encoder.fusion is None
    assert_close(logits_of(model, items), logits_of(model, items, images=False))


@ALL
def test_a_word_does_not_see_those_after_it(settings, items, build, collate, assert_close):
    model = build(settings)
    batch = collate(items)
    expected, _ = model(**batch)
    batch["prev_output_tokens"][:, 3:] = 4
    found, _ = model(**batch)
    assert_close(found[:, :3], expected[:, :3])


# -- decoding --------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_step_by_step_with_moving_beams_is_the_teacher_forced_pass(
    settings, seed, items, build, encode, assert_close
):
    """At each step hypotheses are dropped, repeated and moved at random, sentences included."""
    torch.manual_seed(seed)
    model = build(settings)
    torch.manual_seed(seed)
    encoder_out, state = encode(model, items), {}
    tokens = torch.full((len(items), 1), EOS)
    for _ in range(6):
        logits, extra = model.decoder(tokens, encoder_out, incremental_state=state)
        expected, expected_extra = model.decoder(tokens, encoder_out)
        assert logits.shape == (len(tokens), 1, 14)
        assert_close(logits[:, 0], expected[:, -1])
        assert_close(extra["attn"][0][:, 0], expected_extra["attn"][0][:, -1])
        order = torch.randint(len(tokens), (torch.randint(2, 7, ()).item(),))
        if len(order) == len(tokens) and settings["arch"] == "cross_modal_transformer":
            order = order[1:]  # fairseq takes as many for the same sentences
        encoder_out = model.encoder.reorder_encoder_out(encoder_out, order)
        model.decoder.reorder_incremental_state_scripting(state, order)
        tokens = torch.cat([tokens[order], torch.randint(4, 14, (len(order), 1))], dim=1)


@ALL
@torch.no_grad()
def test_beam_search_scores_are_teacher_forced_scores(
    settings, items, translate, build, collate, assert_close
):
    model = build(settings)
    for item, hypotheses in zip(items, translate(model, items)):
        assert len(hypotheses) == 3
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]  # ends in EOS
            forced = item._replace(target=torch.cat([tokens[-1:], tokens[:-1]]))
            logits, extra = model(**collate([forced]))
            scores = logits[0].log_softmax(-1).gather(1, tokens[:, None])[:, 0]
            assert_close(hypothesis["positional_scores"], scores)
            assert_close(hypothesis["score"], scores.mean())
            columns = len(item.source)
            assert_close(hypothesis["attention"][:columns], extra["attn"][0][0].T)
            assert (hypothesis["attention"][columns:] == 0).all()


@ALL
def test_beam_search_of_a_batch_is_that_of_its_sentences(
    settings, items, translate, build, assert_close
):
    model = build(settings)
    for item, hypotheses in zip(items, translate(model, items)):
        for one, other in zip(hypotheses, translate(model, [item])[0]):
            assert torch.equal(one["tokens"], other["tokens"])
            assert_close(one["score"], other["score"])


@ALL
@pytest.mark.parametrize("order", [[3, 0, 0, 2], [2, 2, 2, 0, 0, 0], [1, 0, 3, 2]], ids=str)
@torch.no_grad()
def test_reordered_sentences_are_the_same_sentences_elsewhere(
    settings, order, items, build, collate, encode, assert_close
):
    """Of beams, of hypotheses in any order, with all that is known of their attention."""
    model = build(settings)
    tokens, encoder_out = collate(items)["prev_output_tokens"], encode(model, items, need_maps=True)
    expected, expected_extra = model.decoder(tokens, encoder_out, need_maps=True)
    moved = model.encoder.reorder_encoder_out(encoder_out, torch.tensor(order))
    found, extra = model.decoder(tokens[order], moved, need_maps=True)
    assert_close(found, expected[order])
    assert extra.keys() == expected_extra.keys()
    for family, attention in expected_extra["maps"].items():
        assert_close(extra["maps"][family], attention[order])
        for mask, expected_mask in zip(
            extra["map_masks"][family], expected_extra["map_masks"][family]
        ):
            assert torch.equal(mask, expected_mask[order])


# -- attention maps --------------------------------------------------------------------------------


@ALL
def test_attn_is_the_mean_over_the_heads(settings, items, build, collate, assert_close):
    """Of the last layer. And nothing else comes unless maps are asked for."""
    model = build(settings)
    batch = collate(items)
    _, extra = model(**batch)
    assert extra.keys() == {"attn"}
    [attn] = extra["attn"]
    assert attn.shape == (4, 6, 7)  # B, T, S
    _, with_maps = model(**batch, need_maps=True)
    last = with_maps["maps"]["cross"][:, -CROSS_HEADS[settings["arch"]] :]
    assert_close(attn, last.mean(dim=1))
    assert_close(attn.sum(-1), torch.ones(4, 6))


@ALL
@pytest.mark.parametrize("training", [False, True])
def test_maps_are_attention_before_dropout_with_their_masks(
    settings, training, items, build, collate, assert_close
):
    model = build({**settings, "attention_dropout": 0.5, "fusion_dropout": 0.5}).train(training)
    batch = collate(items)
    _, extra = model(**batch, need_maps=True)
    maps, masks = extra["maps"], extra["map_masks"]
    source, target = batch["src_tokens"].ne(PAD), batch["prev_output_tokens"].ne(PAD)
    families = {"cross": (target, source)}
    heads = {"cross": 2}
    if settings["arch"] == "cross_modal_transformer":
        families.update(encoder_self=(source, source), decoder_self=(target, target))
        heads = {"encoder_self": 2 * 2, "decoder_self": 3 * 3, "cross": 3 * 3}  # layers * heads
    if "image_feature_size" in settings:
        families["fusion"] = (source, batch["image_mask"])
        heads["fusion"] = settings.get("fusion_heads", 2)
    assert maps.keys() == masks.keys() == families.keys()
    for family, (queries, keys) in families.items():
        assert torch.equal(masks[family][0], queries)
        assert torch.equal(masks[family][1], keys)
        weights = maps[family]
        assert weights.shape == (4, heads[family], queries.shape[1], keys.shape[1])
        assert (weights.masked_select(~keys[:, None, None, :]) == 0).all()
        some = keys.any(dim=1).float()[:, None, None]  # the item without an image has zeros
        assert_close(weights.sum(-1), some.expand(weights.shape[:3]))


@WITH_IMAGES
def test_maps_change_no_result_and_are_there_without_images(
    settings, items, build, collate, assert_close
):
    model = build(settings)
    for images in (True, False):
        batch = collate(items, images=images)
        logits, extra = model(**batch, need_maps=True)
        assert_close(logits, model(**batch)[0])
    assert (extra["maps"]["fusion"] == 0).all()
    assert not extra["map_masks"]["fusion"][1].any()


# -- parameters ------------------------------------------------------------------------------------


@ALL
def test_a_gradient_reaches_every_parameter(settings, items, build, collate):
    model = build(settings).double()  # so that what is zero looks like it
    logits, _ = model(**collate(items))
    (logits.log_softmax(-1) * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        shifts_all_scores = name.endswith(
            ("key.bias", "k_proj.bias")
        )  # which the softmax does not see
        assert (parameter.grad.abs().max() > 1e-5) != shifts_all_scores, name


@WITH_IMAGES
def test_a_batch_without_images_has_the_same_graph(settings, items, build, collate):
    """Data-parallel ranks need a gradient, if a zero one, for the same parameters."""
    model = build(settings)
    for batch in (
        collate(items, images=False),
        {**collate(items), "image_mask": torch.zeros(4, R, dtype=torch.bool)},
    ):
        model.zero_grad()
        model(**batch)[0].pow(2).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@ALL
def test_a_state_dict_restores_the_model(settings, items, build, logits_of):
    model, other = build(settings), build(settings)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert not torch.allclose(logits_of(other, items)[0], logits_of(model, items)[0])
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    for one, two in zip(logits_of(other, items), logits_of(model, items)):
        assert torch.equal(one, two)


@BOTH
def test_embeddings_are_separate_unless_shared(arch, build, dictionaries):
    model = build({"arch": arch, **ONE_WIDTH}, target=dictionaries[0])
    source, target = model.encoder.embed_tokens, model.decoder.embed_tokens
    assert source.weight is not target.weight
    assert target.weight is not model.decoder.output_projection.weight


@BOTH
def test_share_decoder_input_output_embed_is_one_matrix(arch, build):
    model = build({"arch": arch, "share_decoder_input_output_embed": True})
    assert model.decoder.embed_tokens.weight is model.decoder.output_projection.weight
    assert model.encoder.embed_tokens.weight is not model.decoder.embed_tokens.weight


@BOTH
def test_share_all_embeddings_is_one_matrix(arch, build, dictionaries):
    settings = {"arch": arch, "share_all_embeddings": True, **ONE_WIDTH}
    model = build(settings, target=dictionaries[0])
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight
    assert model.decoder.embed_tokens.weight is model.decoder.output_projection.weight


@BOTH
@pytest.mark.parametrize("shared", [False, True])
def test_the_embedding_of_padding_starts_at_zero(arch, shared, build, dictionaries):
    settings = {"arch": arch, "share_all_embeddings": shared, **ONE_WIDTH}
    model = build(settings, target=dictionaries[0])
    for embedding in (model.encoder.embed_tokens, model.decoder.embed_tokens):
        assert (embedding.weight[PAD] == 0).all()
        assert (embedding.weight[[0, *range(2, 12)]] != 0).all()


@WITH_IMAGES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_takes_float32_features(dtype, settings, items, build, collate):
    """fairseq-generate --fp16 halves the model, but not what the data set gives."""
    model = build(settings)
    expected, _ = model(**collate(items))
    logits, _ = model.to(dtype)(**collate(items))
    assert logits.dtype == dtype
    assert (logits.float() - expected).abs().mean() < 0.02 * expected.abs().max()
