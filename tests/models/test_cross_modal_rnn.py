"""What holds of the cross_modal_rnn alone; test_cross_modal_models.py has the rest."""

from argparse import Namespace
from types import SimpleNamespace

import fairseq.models
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf

from caf_dkd_plugin.models._cross_modal.config import text_problems
from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig, CrossModalRNNModel
from caf_dkd_plugin.modules.scaled_embedding import ScaledEmbedding

IMAGES = {"image_feature_size": 10}
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


@pytest.fixture(scope="module")
def build(build):
    """A function that builds it: (settings, source=, target=, **settings of the task) -> model."""

    def build_rnn(settings=(), **others):
        return build({"arch": "cross_modal_rnn", **dict(settings)}, **others)

    return build_rnn


# -- decoding -------------------------------------------------------------------------------------


def test_reordering_copies_no_sentence(items, build, encode):
    encoder_out = encode(build(), items)
    moved = build().encoder.reorder_encoder_out(encoder_out, torch.tensor([0, 0, 0, 3, 3, 3]))
    assert all(moved[name] is tensor for name, tensor in encoder_out.items())


@ALL
def test_a_model_prepared_for_inference_translates_the_same(
    settings, items, translate, build, assert_close
):
    """fairseq-generate prepares it: what the RNN makes of each symbol is then known beforehand."""
    expected = translate(build(settings), items)
    model = build(settings)
    weights = set(model.state_dict())
    model.prepare_for_inference_(OmegaConf.structured(FairseqConfig()))
    assert len(model.decoder.gates) == 14
    assert set(model.state_dict()) == weights
    for hypotheses, others in zip(translate(model, items), expected):
        for hypothesis, other in zip(hypotheses, others):
            assert torch.equal(hypothesis["tokens"], other["tokens"])
            assert_close(hypothesis["positional_scores"], other["positional_scores"])
            assert_close(hypothesis["attention"], other["attention"])


def test_it_does_not_translate_with_dropout(build):
    cfg = OmegaConf.structured(FairseqConfig())
    cfg.generation.retain_dropout = True
    with pytest.raises(ValueError, match="--retain-dropout: a cross_modal_rnn translates without"):
        build().prepare_for_inference_(cfg)


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_embeddings_are_read_scaled_by_the_root_of_their_width(shared, build, assert_close):
    """So that they have a variance of 1, and those of the output layer one of 1 / d."""
    words = Dictionary()
    for number in range(1000):
        words.add_symbol(str(number))
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
def test_each_dropout_is_active_in_training_only(rate, items, build, collate):
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
def test_dropout_falls_on_each_part_of_the_encoder(rate, settings, items, build, encode):
    encoder_out = encode(build({**settings, **NO_DROPOUT, rate: 0.5}).train(), items)
    values = encoder_out["memory"][encoder_out["mask"]]
    assert 0.3 < (values == 0).float().mean() < 0.7


def test_dropout_falls_on_the_embeddings_and_the_output_of_the_decoder(
    items, build, encode, collate
):
    def features(rate):
        model = build({**NO_DROPOUT, rate: 0.5})
        encoder_out, tokens = encode(model, items), collate(items)["prev_output_tokens"]
        model.train()
        return [model.decoder.extract_features(tokens, encoder_out)[0] for _ in range(2)]

    one, other = features("embed_dropout")
    assert not torch.equal(one, other)
    assert (one != 0).all()
    assert 0.3 < (features("dropout")[0] == 0).float().mean() < 0.7


# -- settings -------------------------------------------------------------------------------------


def test_without_encoder_layers_the_encoder_is_blind_to_order(items, build, encode, assert_close):
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


def test_the_settings_reach_their_parts(build):
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
def test_contradictory_settings_are_refused(settings, message, build):
    with pytest.raises(ValueError, match=message):
        build(settings)


def test_all_contradictions_come_in_one_error(build):
    settings = {"decoder_layers": 0, "encoder_hidden_size": 7, "fusion_heads": 3, **IMAGES}
    with pytest.raises(ValueError, match="cross_modal_rnn:") as error:
        build({**settings, "share_all_embeddings": True}, left_pad_source=True)
    assert str(error.value).count("\n- ") == 7  # and the 2 heads of the decoder on a width of 7


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_task_that_pads_on_the_left_is_refused(side, build):
    with pytest.raises(ValueError, match=f"{side}.* padded on the right.* multimodal_translation"):
        build(**{f"left_pad_{side}": True})


def test_a_task_without_a_dataclass_that_pads_on_the_left_is_refused():
    """translation_multi_simple_epoch keeps its options in `args`, and some of them as words."""
    args = Namespace(left_pad_source="True", left_pad_target="False")
    [problem] = text_problems(CrossModalRNNConfig(), SimpleNamespace(cfg=None, args=args))
    assert "it reads source sentences that are padded on the right" in problem


def test_settings_of_an_unused_fusion_are_not_judged(build):
    assert build({"fusion_heads": 3}).encoder.fusion is None


def test_the_same_name_is_registered_with_fairseq():
    assert fairseq.models.MODEL_REGISTRY["cross_modal_rnn"] is CrossModalRNNModel
