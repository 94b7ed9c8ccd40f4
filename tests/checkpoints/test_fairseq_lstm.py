"""What fairseq's lstm computes is what its weights compute here."""

import pytest
import torch

from caf_dkd_plugin.checkpoints.initialise import initialise

PAD, EOS = 1, 2
TIED = {
    "separate": {},
    "target": {"share_decoder_input_output_embed": True},
    "all": {"share_all_embeddings": True},
}
LAYERS = pytest.mark.parametrize("layers", [1, 2])
SAME_TIES = pytest.mark.parametrize("ties", TIED.values(), ids=TIED)


@pytest.fixture
def source():
    """Three sentences (B, S), padded on the right, and their lengths, which fairseq wants sorted."""
    tokens = torch.tensor([[4, 7, 5, 9, EOS], [8, 4, 11, EOS, PAD], [6, EOS, PAD, PAD, PAD]])
    return tokens, tokens.ne(PAD).sum(dim=1)


def left_padded(tokens, lengths):
    """As fairseq's task pads."""
    return torch.stack([row.roll(len(row) - n.item()) for row, n in zip(tokens, lengths)])


@pytest.fixture
def pair(ours, fairseqs, save):
    """A function that builds both, ours from the other's checkpoint: (layers, ties, **settings)."""

    def build(layers, ties, **settings):
        theirs = fairseqs(encoder_layers=layers, decoder_layers=layers, **ties)
        model = ours(encoder_layers=layers, decoder_layers=layers, **{**ties, **settings})
        initialise(model, save(theirs, with_symbols=False))
        return model, theirs

    return build


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@LAYERS
@SAME_TIES
@torch.no_grad()
def test_the_encoders_output_is_the_same(layers, ties, pair, source):
    model, theirs = pair(layers, ties)
    tokens, lengths = source
    encoder_out = model.encoder(tokens)
    expected, *_ = theirs.encoder(left_padded(tokens, lengths), lengths)
    mask = encoder_out["mask"]
    assert_close(encoder_out["memory"][mask], expected.transpose(0, 1)[mask])


@LAYERS
@pytest.mark.parametrize(
    ("ties", "here"),
    [
        *((ties, {}) for ties in TIED.values()),
        (TIED["target"], {"share_decoder_input_output_embed": False}),
        (TIED["all"], {"share_all_embeddings": False}),
    ],
    ids=[*TIED, "target-here-separate", "all-here-separate"],
)
@torch.no_grad()
def test_from_the_same_state_the_decoder_with_input_feeding_is_the_same(
    layers, ties, here, pair, source
):
    model, theirs = pair(layers, ties, decoder_input_feeding=True, **here)
    tokens, lengths = source
    encoder_out = theirs.encoder(left_padded(tokens, lengths), lengths)
    memory, mask = encoder_out[0].transpose(0, 1), tokens.ne(PAD)
    target = torch.tensor([[EOS, 4, 9, 6], [EOS, 5, 5, 10], [EOS, 11, 7, 8]])
    expected, attention = theirs.decoder(target, encoder_out)

    hidden, cell = (
        project(final)
        for project, final in zip(
            (theirs.decoder.encoder_hidden_proj, theirs.decoder.encoder_cell_proj), encoder_out[1:3]
        )
    )
    state = (hidden, cell, torch.zeros(1, len(target), 8))
    embedded = model.decoder.embed_tokens(target)
    recurrence = model.decoder.recurrence
    features, _, weights = recurrence(embedded, state, recurrence.read(memory, mask))
    logits = model.decoder.output_layer(features)
    bias = 0 if ties else theirs.decoder.fc_out.bias  # which the output layer here does not have
    assert_close(logits + bias, expected)
    assert_close(weights[:, 0], attention)
    assert expected.std() > 0.3  # so that the comparison means something


@SAME_TIES
@torch.no_grad()
def test_the_network_without_input_feeding_reads_the_same_embeddings(ties, pair):
    """Where the matrix is the output layer too, they stay as they are and the RNN makes up for it."""
    model, theirs = pair(1, ties)
    tokens = torch.arange(4, 12)[None]
    for side in ("encoder", "decoder"):
        part, other = getattr(model, side), getattr(theirs, side)
        read, expected = part.embed_tokens(tokens), other.embed_tokens(tokens)
        if part.embed_tokens.weight is model.decoder.output_projection.weight:
            assert_close(part.embed_tokens.weight, other.embed_tokens.weight)
        else:
            assert_close(read, expected)
        if side == "decoder":
            theirs_reads = other.layers[0].weight_ih[:, :8]
            assert_close(read @ part.recurrence.rnn.weight_ih_l0.T, expected @ theirs_reads.T)


@torch.no_grad()
def test_several_heads_share_the_score(pair):
    """The sum of the heads' scores is the score of the one head there."""
    model, theirs = pair(1, {}, decoder_attention_heads=3)
    state, key = torch.randn(8), torch.randn(12)
    expected = theirs.decoder.attention.input_proj(state) @ key
    query = model.decoder.recurrence.query(state)
    scores = (query * key).view(3, 4).sum(dim=1) / 4**0.5
    assert_close(scores.sum(), expected)


def test_what_has_no_counterpart_is_named_with_the_reason(ours, fairseqs, save):
    report = initialise(ours(), save(fairseqs(), with_symbols=False))
    assert set(report.kept) == {
        "decoder.recurrence.initial.weight",
        "decoder.recurrence.initial.bias",
    }
    assert report.left.keys() == {
        *(
            f"decoder.encoder_{part}_proj.{kind}"
            for part in ("hidden", "cell")
            for kind in ("weight", "bias")
        ),
        "decoder.fc_out.bias",
    }
    assert report.left["decoder.fc_out.bias"] == "the output layer has no bias here"
    assert "first state" in report.left["decoder.encoder_cell_proj.bias"]


def test_other_widths_there(ours, fairseqs, save):
    """A wider decoder with its own output width, and an encoder of one direction."""
    theirs = fairseqs(encoder_bidirectional=False, decoder_hidden_size=10, decoder_out_embed_dim=9)
    report = initialise(ours(), save(theirs, with_symbols=False))
    assert report.taken.keys() == {
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        *(
            f"encoder.recurrence.rnn.{part}_l0"
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ),
    }
    assert "width of the embeddings" in report.left["decoder.additional_fc.weight"]
    assert report.left["decoder.layers.0.weight_hh"] == (
        "its shape is (40, 10), decoder.recurrence.rnn.weight_hh_l0 has (32, 8)"
    )


def test_a_decoder_without_attention(ours, fairseqs, save):
    report = initialise(ours(), save(fairseqs(decoder_attention="0"), with_symbols=False))
    for name in ("query.weight", "output.weight", "output.bias"):
        assert f"decoder.recurrence.{name}" in report.kept


@pytest.mark.parametrize("ties", TIED.values(), ids=TIED)
def test_an_encoder_of_one_direction_is_the_forward_half(ties, ours, fairseqs, save, source):
    theirs, model = fairseqs(encoder_bidirectional=False, **ties), ours(**ties)
    initialise(model, save(theirs, with_symbols=False))
    tokens, lengths = source
    with torch.no_grad():
        expected, *_ = theirs.encoder(left_padded(tokens, lengths), lengths)
        encoder_out = model.encoder(tokens)
    mask = encoder_out["mask"]
    assert_close(encoder_out["memory"][mask][:, :6], expected.transpose(0, 1)[mask])


def test_fewer_layers_here(ours, fairseqs, save):
    theirs = fairseqs(encoder_layers=2, decoder_layers=2)
    report = initialise(ours(encoder_layers=0), save(theirs, with_symbols=False))
    assert report.left["decoder.layers.1.weight_hh"] == "the model has nothing like it"
    assert report.left["encoder.lstm.weight_hh_l0"] == "the model has nothing like it"


@torch.no_grad()
def test_a_checkpoint_in_half_precision_is_scaled_in_float32(ours, fairseqs, save):
    theirs, model = fairseqs().half(), ours()
    initialise(model, save(theirs, with_symbols=False))
    expected = theirs.encoder.embed_tokens.weight.float() * (1 / 8**0.5)
    assert torch.equal(model.encoder.embed_tokens.weight, expected)
