import copy
from types import SimpleNamespace
from typing import NamedTuple

import fairseq.models
import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.sequence_generator import SequenceGenerator
from omegaconf import OmegaConf

from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig, CrossModalRNNModel
from caf_dkd_plugin.modules.scaled_embedding import ScaledEmbedding

PAD, EOS = 1, 2
R, D = 3, 10

SMALL = {
    "encoder_embed_dim": 8,
    "encoder_hidden_size": 12,
    "decoder_embed_dim": 10,
    "decoder_hidden_size": 14,
    "fusion_dim": 8,
    "fusion_heads": 2,
    "fusion_ffn_dim": 9,
    "decoder_attention_heads": 2,
}
IMAGES = {"image_feature_size": D}
SETTINGS = {
    "gru-text": {},
    "lstm-text": {"rnn_cell": "lstm", "decoder_layers": 2},
    "gru-text-feeding": {"decoder_input_feeding": True},
    "gru-images": {**IMAGES, "encoder_layers": 2, "decoder_layers": 3, "fusion_residual": True},
    "lstm-images-both": {
        **IMAGES, "rnn_cell": "lstm", "encoder_layers": 3, "decoder_layers": 2,
        "fusion_direction": "both", "fusion_normalize_image": True,
    },
    "gru-images-no-encoder": {**IMAGES, "encoder_layers": 0, "fusion_heads": 1},
    "lstm-images-both-no-encoder": {
        **IMAGES, "rnn_cell": "lstm", "encoder_layers": 0, "fusion_direction": "both"
    },
    "lstm-images-feeding": {
        **IMAGES, "rnn_cell": "lstm", "decoder_layers": 2, "decoder_input_feeding": True
    },
}  # fmt: skip
ALL = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
WITH_IMAGES = pytest.mark.parametrize(
    "settings",
    [pytest.param(s, id=name) for name, s in SETTINGS.items() if s.keys() & IMAGES],
)


# -- building blocks ------------------------------------------------------------------------------


def make_dictionary(symbols):
    dictionary = Dictionary()
    for symbol in symbols:
        dictionary.add_symbol(symbol)
    return dictionary


SOURCE, TARGET = make_dictionary("abcdefgh"), make_dictionary("ABCDEFGHIJ")


def build(settings=(), source=SOURCE, target=TARGET, arch="cross_modal_rnn", **task_cfg):
    """A model from fairseq's registry, in eval; with weights large enough to make it decided."""
    torch.manual_seed(5)
    cfg = OmegaConf.structured(CrossModalRNNConfig(**{**SMALL, **dict(settings)}))
    cfg._name = arch
    task = SimpleNamespace(
        cfg=SimpleNamespace(**task_cfg), source_dictionary=source, target_dictionary=target
    )
    model = fairseq.models.build_model(cfg, task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


class Item(NamedTuple):
    source: torch.Tensor
    """(S,), ends in EOS"""
    target: torch.Tensor
    """(T,), begins with EOS: what the decoder reads"""
    features: torch.Tensor
    """(R, D)"""
    regions: torch.Tensor
    """(R,) bool"""


@pytest.fixture
def items():
    """Four sentences: all regions, some regions, no image, all regions."""
    torch.manual_seed(0)
    masks = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]]).bool()
    eos = torch.tensor([EOS])
    return [
        Item(
            torch.cat([torch.randint(4, len(SOURCE), (s,)), eos]),
            torch.cat([eos, torch.randint(4, len(TARGET), (t,))]),
            torch.randn(R, D),
            mask,
        )
        for s, t, mask in zip((4, 1, 6, 3), (2, 5, 3, 1), masks)
    ]


def pad(rows, columns):
    rows = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return torch.nn.functional.pad(rows, (0, columns), value=PAD)


def collate(items, source_columns=0, target_columns=0, images=True):
    """What the model takes, with extra pad columns; `images=False` leaves them out."""
    batch = {
        "src_tokens": pad([item.source for item in items], source_columns),
        "src_lengths": torch.tensor([len(item.source) for item in items]),
        "prev_output_tokens": pad([item.target for item in items], target_columns),
    }
    if images:
        batch["image_features"] = torch.stack([item.features for item in items])
        batch["image_mask"] = torch.stack([item.regions for item in items])
    return batch


@torch.no_grad()
def logits_of(model, items, **kwargs):
    """For each item its logits (T, V), without padding."""
    logits, _ = model(**collate(items, **kwargs))
    return [row[: len(item.target)] for row, item in zip(logits, items)]


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


# -- an item and its neighbours -------------------------------------------------------------------


@ALL
def test_an_item_alone_is_what_it_is_in_a_batch(settings, items):
    model = build(settings)
    together = logits_of(model, items)
    for item, logits in zip(items, together):
        assert_close(logits_of(model, [item]), [logits])


@ALL
def test_the_order_of_the_batch_does_not_matter(settings, items):
    model = build(settings)
    assert_close(logits_of(model, items[::-1])[::-1], logits_of(model, items))


@ALL
def test_extra_pad_columns_do_not_matter(settings, items):
    model = build(settings)
    expected = logits_of(model, items)
    assert_close(logits_of(model, items, source_columns=3), expected)
    assert_close(logits_of(model, items, target_columns=2), expected)


@ALL
def test_the_source_lengths_are_counted_and_not_taken(settings, items):
    model = build(settings)
    batch = collate(items)
    expected, _ = model(**batch)
    batch["src_lengths"] = None
    assert torch.equal(model(**batch)[0], expected)


@WITH_IMAGES
def test_the_images_of_others_do_not_matter(settings, items):
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
def test_a_missing_image_is_as_if_there_were_no_images_at_all(settings, items):
    model = build(settings)
    assert_close(logits_of(model, items)[2], logits_of(model, items, images=False)[2])
    hidden = [item._replace(regions=torch.zeros(R, dtype=torch.bool)) for item in items]
    assert_close(logits_of(model, hidden), logits_of(model, items, images=False))


@WITH_IMAGES
def test_hidden_features_do_not_matter(settings, items):
    model = build(settings)
    changed = [
        item._replace(features=item.features.masked_fill(~item.regions[:, None], 1e6))
        for item in items
    ]
    assert_close(logits_of(model, changed), logits_of(model, items))


@WITH_IMAGES
def test_a_visible_image_matters(settings, items):
    model = build(settings)
    changed = [item._replace(features=item.features.flip(-1)) for item in items]
    differences = [
        (one - other).abs().max()
        for one, other in zip(logits_of(model, items), logits_of(model, changed))
    ]
    assert differences[2] < 1e-5  # it has none
    assert min(differences[:2] + differences[3:]) > 1e-3


def test_a_text_model_does_not_read_images(items):
    model = build()
    assert model.encoder.fusion is None
    assert_close(logits_of(model, items), logits_of(model, items, images=False))


@ALL
def test_a_word_does_not_see_those_after_it(settings, items):
    model = build(settings)
    batch = collate(items)
    expected, _ = model(**batch)
    batch["prev_output_tokens"][:, 3:] = 4
    found, _ = model(**batch)
    assert_close(found[:, :3], expected[:, :3])


# -- decoding -------------------------------------------------------------------------------------


def encode(model, items):
    batch = collate(items)
    del batch["prev_output_tokens"]
    return model.encoder(**batch)


@ALL
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_step_by_step_with_moving_beams_is_the_teacher_forced_pass(settings, seed, items):
    """At each step hypotheses are dropped, repeated and moved at random, sentences included."""
    torch.manual_seed(seed)
    model = build(settings)
    torch.manual_seed(seed)
    encoder_out, state = encode(model, items), {}
    tokens = torch.full((len(items), 1), EOS)
    for _ in range(6):
        logits, extra = model.decoder(tokens, encoder_out, incremental_state=state)
        expected, expected_extra = model.decoder(tokens, encoder_out)
        assert logits.shape == (len(tokens), 1, len(TARGET))
        assert_close(logits[:, 0], expected[:, -1])
        assert_close(extra["attn"][0][:, 0], expected_extra["attn"][0][:, -1])
        order = torch.randint(len(tokens), (torch.randint(2, 7, ()).item(),))
        encoder_out = model.encoder.reorder_encoder_out(encoder_out, order)
        model.decoder.reorder_incremental_state_scripting(state, order)
        tokens = torch.cat([tokens[order], torch.randint(4, len(TARGET), (len(order), 1))], dim=1)


@pytest.fixture
def translate():
    """`translate(model, items)` -> fairseq's beam search, for each item its hypotheses."""

    def generate(model, items):
        batch = collate(items)
        del batch["prev_output_tokens"]
        generator = SequenceGenerator([model], TARGET, beam_size=3, max_len_b=7)
        return generator.generate([model], {"net_input": batch})

    return generate


@ALL
@torch.no_grad()
def test_beam_search_scores_are_teacher_forced_scores(settings, items, translate):
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
def test_beam_search_of_a_batch_is_that_of_its_sentences(settings, items, translate):
    model = build(settings)
    for item, hypotheses in zip(items, translate(model, items)):
        for one, other in zip(hypotheses, translate(model, [item])[0]):
            assert torch.equal(one["tokens"], other["tokens"])
            assert_close(one["score"], other["score"])


@pytest.mark.parametrize("need_maps", [False, True])
def test_reorder_encoder_out_moves_every_tensor(need_maps, items):
    model = build(SETTINGS["lstm-images-both"])
    order = [3, 0, 0, 2]
    batch = collate(items)
    del batch["prev_output_tokens"]
    before = model.encoder(**batch, need_maps=need_maps)
    after = model.encoder.reorder_encoder_out(before, torch.tensor(order))
    maps = {"fusion_map", "image_mask"} if need_maps else set()
    assert before.keys() == after.keys() == {"memory", "mask"} | maps
    for name, tensor in before.items():
        assert torch.equal(after[name], torch.stack([tensor[i] for i in order])), name


# -- attention maps -------------------------------------------------------------------------------


@ALL
def test_attn_is_the_mean_over_the_heads(settings, items):
    """And nothing else comes unless maps are asked for."""
    model = build(settings)
    batch = collate(items)
    _, extra = model(**batch)
    assert extra.keys() == {"attn"}
    [attn] = extra["attn"]
    assert attn.shape == (4, 6, 7)  # B, T, S
    _, with_maps = model(**batch, need_maps=True)
    assert_close(attn, with_maps["maps"]["cross"].mean(dim=1))
    assert_close(attn.sum(-1), torch.ones(4, 6))


@ALL
@pytest.mark.parametrize("training", [False, True])
def test_maps_are_attention_before_dropout_with_their_masks(settings, training, items):
    model = build({**settings, "attention_dropout": 0.5, "fusion_dropout": 0.5}).train(training)
    batch = collate(items)
    _, extra = model(**batch, need_maps=True)
    maps, masks = extra["maps"], extra["map_masks"]
    source, target = batch["src_tokens"].ne(PAD), batch["prev_output_tokens"].ne(PAD)
    families = {"cross": (target, source)}
    if "image_feature_size" in settings:
        families["fusion"] = (source, batch["image_mask"])
    assert maps.keys() == masks.keys() == families.keys()
    heads = {"cross": 2, "fusion": settings.get("fusion_heads", SMALL["fusion_heads"])}
    for family, (queries, keys) in families.items():
        assert torch.equal(masks[family][0], queries)
        assert torch.equal(masks[family][1], keys)
        weights = maps[family]
        assert weights.shape == (4, heads[family], queries.shape[1], keys.shape[1])
        assert (weights.masked_select(~keys[:, None, None, :]) == 0).all()
        some = keys.any(dim=1).float()[:, None, None]  # the item without an image has zeros
        assert_close(weights.sum(-1), some.expand(weights.shape[:3]))


@WITH_IMAGES
def test_maps_change_no_result_and_are_there_without_images(settings, items):
    model = build(settings)
    for images in (True, False):
        batch = collate(items, images=images)
        logits, extra = model(**batch, need_maps=True)
        assert torch.equal(logits, model(**batch)[0])
    assert (extra["maps"]["fusion"] == 0).all()
    assert not extra["map_masks"]["fusion"][1].any()


# -- parameters -----------------------------------------------------------------------------------


@ALL
def test_a_gradient_reaches_every_parameter(settings, items):
    model = build(settings)
    logits, _ = model(**collate(items))
    (logits.log_softmax(-1) * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        shifts_all_scores = name.endswith("key.bias")  # which the softmax does not see
        assert (parameter.grad.abs().max() > 1e-5) != shifts_all_scores, name


@WITH_IMAGES
def test_a_batch_without_images_has_the_same_graph(settings, items):
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
def test_a_state_dict_restores_the_model(settings, items):
    model, other = build(settings), build(settings)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert not torch.allclose(logits_of(other, items)[0], logits_of(model, items)[0])
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    for one, two in zip(logits_of(other, items), logits_of(model, items)):
        assert torch.equal(one, two)


def test_embeddings_are_separate_unless_shared():
    model = build({"decoder_embed_dim": 8}, target=SOURCE)
    source, target = model.encoder.embed_tokens, model.decoder.embed_tokens
    assert source.weight is not target.weight
    assert target.weight is not model.decoder.output_projection.weight


def test_share_decoder_input_output_embed_is_one_matrix():
    model = build({"share_decoder_input_output_embed": True})
    assert model.decoder.embed_tokens.weight is model.decoder.output_projection.weight
    assert model.encoder.embed_tokens.weight is not model.decoder.embed_tokens.weight


def test_share_all_embeddings_is_one_matrix():
    model = build({"share_all_embeddings": True, "decoder_embed_dim": 8}, target=SOURCE)
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight
    assert model.decoder.embed_tokens.weight is model.decoder.output_projection.weight


@pytest.mark.parametrize("shared", [False, True])
def test_the_embedding_of_padding_starts_at_zero(shared):
    settings = {"share_all_embeddings": shared, "decoder_embed_dim": 8}
    model = build(settings, target=SOURCE)
    for embedding in (model.encoder.embed_tokens, model.decoder.embed_tokens):
        assert (embedding.weight[PAD] == 0).all()
        assert (embedding.weight[[0, *range(2, len(SOURCE))]] != 0).all()


@pytest.mark.parametrize("shared", [False, True])
def test_embeddings_are_read_scaled_by_the_root_of_their_width(shared):
    """So that they have a variance of 1, and those of the output layer one of 1 / d."""
    words = make_dictionary(map(str, range(1000)))
    torch.manual_seed(0)
    embedding = ScaledEmbedding(len(words), 64, words.pad())
    tokens = torch.arange(4, len(words)).view(2, -1)
    assert_close(embedding(tokens), 8 * embedding.weight[tokens])
    assert embedding(tokens).std().item() == pytest.approx(1, abs=0.02)
    settings = {"share_decoder_input_output_embed": shared, "decoder_embed_dim": 64}
    decoder = build(settings, target=words).decoder
    weight = decoder.output_projection.weight / 2  # build() doubles them
    assert weight.std().item() == pytest.approx(1 / 8, abs=0.01)


NO_DROPOUT = dict.fromkeys(("dropout", "embed_dropout", "attention_dropout", "fusion_dropout"), 0.0)


@pytest.mark.parametrize("rate", NO_DROPOUT)
def test_each_dropout_is_active_in_training_only(rate, items):
    batch = collate(items)
    for rates, random in ((NO_DROPOUT, False), ({**NO_DROPOUT, rate: 0.5}, True)):
        model = build({**SETTINGS["gru-images"], **rates}).train()
        assert torch.equal(model(**batch)[0], model(**batch)[0]) != random
        model.eval()
        assert torch.equal(model(**batch)[0], model(**batch)[0])


@pytest.mark.parametrize(
    ("rate", "settings"),
    [
        ("embed_dropout", {"encoder_layers": 0}),  # the memory is then the embeddings
        ("dropout", {"encoder_layers": 0, **IMAGES}),  # the fusion's result
        ("dropout", {"encoder_layers": 1}),  # the RNN's
    ],
)
def test_dropout_falls_on_each_part_of_the_encoder(rate, settings, items):
    encoder_out = encode(build({**settings, **NO_DROPOUT, rate: 0.5}).train(), items)
    values = encoder_out["memory"][encoder_out["mask"]]
    assert 0.3 < (values == 0).float().mean() < 0.7


def test_dropout_falls_on_the_embeddings_and_the_output_of_the_decoder(items):
    def features(rate):
        model = build({**NO_DROPOUT, rate: 0.5})
        encoder_out, tokens = encode(model, items), pad([item.target for item in items], 0)
        model.train()
        return [model.decoder.extract_features(tokens, encoder_out)[0] for _ in range(2)]

    one, other = features("embed_dropout")
    assert not torch.equal(one, other)
    assert (one != 0).all()
    assert 0.3 < (features("dropout")[0] == 0).float().mean() < 0.7


@WITH_IMAGES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_takes_float32_features(dtype, settings, items):
    """fairseq-generate --fp16 halves the model, but not what the data set gives."""
    model = build(settings)
    expected, _ = model(**collate(items))
    logits, _ = model.to(dtype)(**collate(items))
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, atol=0.2, rtol=0.1)


# -- settings -------------------------------------------------------------------------------------


def test_without_encoder_layers_the_encoder_is_blind_to_order(items):
    """The paper's literal encoder."""
    model = build(SETTINGS["gru-images-no-encoder"])
    assert model.encoder.recurrence is None
    item = items[0]
    order = torch.tensor([2, 0, 1, 3, 4])
    memory = encode(model, [item])["memory"]
    assert_close(
        encode(model, [item._replace(source=item.source[order])])["memory"], memory[:, order]
    )
    with_rnn = build(SETTINGS["gru-images"])
    memory = encode(with_rnn, [item])["memory"]
    moved = encode(with_rnn, [item._replace(source=item.source[order])])["memory"]
    assert not torch.allclose(moved, memory[:, order], atol=1e-2)


def test_the_settings_reach_their_parts():
    settings = {
        "rnn_cell": "lstm",
        "encoder_layers": 2,
        "decoder_layers": 3,
        "fusion_direction": "both",
        "fusion_normalize_image": True,
        "fusion_residual": True,
    }
    model = build({**settings, **IMAGES})
    fusion, encoder, decoder = (
        model.encoder.fusion,
        model.encoder.recurrence.rnn,
        model.decoder.recurrence,
    )
    assert isinstance(fusion.image_norm, torch.nn.LayerNorm)
    assert fusion.residual
    for attention in (fusion.text_to_image, fusion.image_to_text):
        assert (attention.heads, attention.query.out_features) == (2, 8)
    assert fusion.ffn[0].out_features == 9
    assert isinstance(encoder, torch.nn.LSTM)
    assert isinstance(decoder.rnn, torch.nn.LSTM)
    assert (encoder.num_layers, encoder.input_size, encoder.hidden_size) == (2, 8, 6)
    assert (decoder.rnn.num_layers, decoder.rnn.input_size, decoder.rnn.hidden_size) == (3, 10, 14)
    assert (decoder.heads, decoder.output.out_features) == (2, 10)


def from_command_line(*arguments):
    """The model's settings and all others, as fairseq-train gets them."""
    arguments = ["DATA", "--task", "translation", *arguments]
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    cfg = OmegaConf.to_container(convert_namespace_to_omegaconf(args), enum_to_str=True)
    model = cfg.pop("model")
    assert model.pop("_name") == "cross_modal_rnn"  # a preset is written out
    assert model.keys() == CrossModalRNNConfig.__dataclass_fields__.keys() - {"_name"}
    return model, cfg


PRESETS = {
    "cross_modal_rnn": {},
    "cross_modal_rnn_tiny": {
        "encoder_embed_dim": 128, "encoder_hidden_size": 128, "decoder_embed_dim": 128,
        "decoder_hidden_size": 128, "fusion_dim": 128, "fusion_ffn_dim": 256,
    },
    "cross_modal_rnn_paper": {"encoder_layers": 0, "fusion_dim": 128, "fusion_heads": 1},
}  # fmt: skip


@pytest.mark.parametrize("arch", PRESETS)
def test_a_preset_sets_these_fields_of_the_model_and_nothing_else(arch):
    base, others = from_command_line("--arch", "cross_modal_rnn")
    model, other_settings = from_command_line("--arch", arch)
    assert model == {**base, **PRESETS[arch]}
    assert other_settings == others


@pytest.mark.parametrize(("arch", "preset"), list(PRESETS.items())[1:])
def test_what_the_user_types_wins_over_a_preset(arch, preset):
    typed = [part for key in preset for part in (f"--{key.replace('_', '-')}", "24")]
    model, _ = from_command_line("--arch", arch, *typed)
    assert {key: model[key] for key in preset} == dict.fromkeys(preset, 24)


@pytest.mark.parametrize("arch", PRESETS)
def test_a_preset_is_built_from_the_settings_and_not_from_itself(arch, items):
    """What a checkpoint or a YAML holds counts; fairseq calls the preset again when it loads one."""
    settings = {**IMAGES, "encoder_layers": 2}
    assert_close(logits_of(build(settings, arch=arch), items), logits_of(build(settings), items))


@pytest.mark.parametrize("arch", PRESETS)
def test_a_checkpoint_older_than_a_setting_gets_its_default(arch):
    settings = OmegaConf.structured(CrossModalRNNConfig(**SMALL, **IMAGES, encoder_layers=2))
    settings = {**OmegaConf.to_container(settings, enum_to_str=True), "_name": arch}
    del settings["fusion_dropout"]
    task = SimpleNamespace(
        cfg=SimpleNamespace(), source_dictionary=SOURCE, target_dictionary=TARGET
    )
    model = fairseq.models.build_model(OmegaConf.create(settings), task)
    assert model.encoder.fusion.text_to_image.dropout == CrossModalRNNConfig.fusion_dropout


CONTRADICTIONS = [
    ({"embed_dropout": 1.0}, "--embed-dropout 1.0 must be at least 0 and below 1"),
    ({"fusion_dropout": -0.1}, "--fusion-dropout -0.1 must be at least 0 and below 1"),
    ({"decoder_layers": 0}, "--decoder-layers 0 must be at least 1"),
    ({"encoder_layers": -1}, "--encoder-layers -1 must not be negative"),
    ({"encoder_hidden_size": 7}, "--encoder-hidden-size 7 is odd"),
    ({"decoder_attention_heads": 5}, "--decoder-attention-heads 5 does not divide the width 12"),
    (
        {"decoder_attention_heads": 3, "encoder_layers": 0},
        "--decoder-attention-heads 3 does not divide the width 8",
    ),
    ({"decoder_attention_heads": 0}, "--decoder-attention-heads 0 must be at least 1"),
    ({"fusion_heads": 3, **IMAGES}, "--fusion-heads 3 does not divide --fusion-dim 8"),
    ({"fusion_heads": -2, **IMAGES}, "--fusion-heads -2 must be at least 1"),
    (
        {"share_all_embeddings": True},
        "--share-all-embeddings needs one joint dictionary, but the source has 12 symbols and the "
        "target 14",
    ),
    (
        {"share_all_embeddings": True},
        "--share-all-embeddings needs equal widths, not --encoder-embed-dim 8 and "
        "--decoder-embed-dim 10",
    ),
]


@pytest.mark.parametrize(("settings", "message"), CONTRADICTIONS)
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(settings)


def test_all_contradictions_come_in_one_error():
    settings = {"decoder_layers": 0, "encoder_hidden_size": 7, "fusion_heads": 3, **IMAGES}
    with pytest.raises(ValueError, match="cross_modal_rnn:") as error:
        build({**settings, "share_all_embeddings": True}, left_pad_source=True)
    assert str(error.value).count("\n- ") == 7  # and the 2 heads of the decoder on a width of 7


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_task_that_pads_on_the_left_is_refused(side):
    with pytest.raises(ValueError, match=f"{side}.* padded on the right.* multimodal_translation"):
        build(**{f"left_pad_{side}": True})


def test_settings_of_an_unused_fusion_are_not_judged():
    assert build({"fusion_heads": 3}).encoder.fusion is None


def test_the_same_name_is_registered_with_fairseq():
    assert fairseq.models.MODEL_REGISTRY["cross_modal_rnn"] is CrossModalRNNModel
