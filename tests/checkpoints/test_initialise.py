import copy
import logging

import pytest
import torch
from fairseq import checkpoint_utils

from caf_dkd_plugin.checkpoints.initialise import initialise
from caf_dkd_plugin.checkpoints.load import CheckpointError

EOS = 2
IMAGES = {"image_feature_size": 5}
FEEDING = {"decoder_input_feeding": True}


def logits_of(model, **images):
    source = torch.tensor([[4, 7, 5, EOS], [8, 4, 11, EOS]])
    target = torch.tensor([[EOS, 4, 9], [EOS, 5, 5]])
    with torch.no_grad():
        return model(source, None, target, **images)[0]


def with_images():
    torch.manual_seed(0)
    return {
        "image_features": torch.randn(2, 3, 5),
        "image_mask": torch.ones(2, 3, dtype=torch.bool),
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("settings", [{}, IMAGES, {**FEEDING, "share_all_embeddings": True}])
def test_a_model_of_the_same_settings_becomes_the_same(settings, ours, save):
    trained, model = ours(1, **settings), ours(2, **settings)
    report = initialise(model, save(trained))
    assert_same(model.state_dict(), trained.state_dict())
    assert report.taken.keys() == trained.state_dict().keys()
    assert report.left == {}
    assert report.kept == report.believed == []


@pytest.mark.parametrize("residual", [False, True])
def test_a_multimodal_model_takes_all_of_a_text_model_but_the_fusion(residual, ours, save):
    text = ours(1)
    built = ours(2, **IMAGES, fusion_residual=residual)
    model = copy.deepcopy(built)
    report = initialise(model, save(text))
    assert report.taken.keys() == text.state_dict().keys()
    last = ["encoder.fusion.ffn.3.weight", "encoder.fusion.ffn.3.bias"]
    assert report.zeroed == (last if residual else [])
    assert {*report.kept, *report.zeroed} == {
        name for name in built.state_dict() if name.startswith("encoder.fusion.")
    }
    state = model.state_dict()
    assert_same({name: state[name] for name in report.kept}, {
        name: built.state_dict()[name] for name in report.kept
    })  # fmt: skip


def test_with_a_residual_fusion_it_starts_as_the_text_model_and_learns_to_look(ours, save):
    text, model = ours(1), ours(2, **IMAGES, fusion_residual=True)
    initialise(model, save(text))
    torch.testing.assert_close(logits_of(model, **with_images()), logits_of(text))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    source, target = torch.tensor([[4, 7, EOS]]), torch.tensor([[EOS, 4]])
    for _ in range(2):  # the attention gets its first gradient when the last layer is not zero
        optimizer.zero_grad()
        images = {name: x[:1] for name, x in with_images().items()}
        model(source, None, target, **images)[0].square().sum().backward()
        optimizer.step()
    assert model.encoder.fusion.text_to_image.value.weight.grad.abs().sum() > 0


def test_another_backbone_is_not_taken_in_part(ours, save):
    settings = {"image_size": 32, "image_backbone_weights": "none"}
    small = {**settings, "image_backbone": "mobilenet_v3_small"}
    path = save(ours(1, **small))
    report = initialise(ours(2, **settings, image_backbone="mobilenet_v3_large"), path)
    assert not [
        name for name in report.taken if name.startswith(("encoder.backbone", "encoder.fu"))
    ]
    assert (
        "the two have not the same backbone"
        in report.left["encoder.backbone.body.features.0.0.weight"]
    )
    assert "- stays as it was built: encoder.backbone.* (" in str(report)
    report = initialise(ours(2, **small), path)
    assert report.kept == []


def test_a_backbone_that_is_read_elsewhere_is_another_one(ours, save):
    """The tensors are the same; the fusion has learned to read what comes of them."""
    settings = {
        **{"image_size": 32, "image_backbone_weights": "none"},
        **{"image_backbone": "mobilenet_v3_small", "image_backbone_layer": "grid"},
    }
    path = save(ours(1, **settings), settings=settings)
    assert initialise(ours(2, **settings), path).kept == []
    report = initialise(ours(2, **{**settings, "image_backbone_layer": "global"}), path)
    assert not [
        name for name in report.taken if name.startswith(("encoder.backbone", "encoder.fu"))
    ]


def test_a_fusion_of_other_images_is_not_taken(ours, save):
    trained, model = ours(1, **IMAGES), ours(2, **IMAGES)
    path = save(trained, task_state={"images": {"backbone": "resnet18", "layer": "grid"}})
    assert not initialise(
        copy.deepcopy(model), path, {"backbone": "resnet18", "layer": "grid"}
    ).kept
    report = initialise(model, path, {"backbone": "resnet50", "layer": "grid"})
    fusion = [name for name in model.state_dict() if name.startswith("encoder.fusion.")]
    assert report.kept == fusion
    assert set(report.left.values()) == {
        "it has learned to read images of another kind: backbone 'resnet18'"
    }
    assert report.left.keys() == set(fusion)


@pytest.mark.parametrize(
    "changed",
    [
        {"fusion_heads": 4},
        {"fusion_residual": True},
        {"fusion_direction": "both"},
        {"fusion_normalize_image": True},
    ],
)
def test_a_fusion_of_other_settings_is_not_taken(changed, ours, save):
    """Its shapes may fit, but its weights mean something else."""
    settings = {
        **{"fusion_heads": 2, "fusion_residual": False, "fusion_direction": "text-to-image"},
        "fusion_normalize_image": False,
    }
    path = save(ours(1, **IMAGES, **settings), settings=settings)
    assert not initialise(ours(2, **IMAGES, **settings), path).kept
    report = initialise(ours(2, **IMAGES, **changed), path)
    assert not any(name.startswith("encoder.fusion.") for name in report.taken)
    [reason] = {report.left[name] for name in report.left if name.startswith("encoder.fusion.")}
    [(name, value)] = changed.items()
    option = "--" + name.replace("_", "-")
    assert reason.endswith(f"other settings: {option} {settings[name]} there, {value} here")


def test_images_of_another_size(ours, save):
    trained, model = ours(1, **IMAGES), ours(2, image_feature_size=7)
    report = initialise(model, save(trained))
    assert set(report.kept) == set(report.left)
    assert all(name.startswith("encoder.fusion.text_to_image.") for name in report.kept)
    [reason] = {reason for name, reason in report.left.items() if name.endswith("key.weight")}
    assert reason == ("its shape is (4, 5), encoder.fusion.text_to_image.key.weight has (4, 7)")
    assert "encoder.fusion.ffn.0.weight" in report.taken


def test_a_text_model_starts_from_a_multimodal_one(ours, save):
    report = initialise(ours(2), save(ours(1, **IMAGES)))
    assert not report.kept
    assert {name.split(".")[1] for name in report.left} == {"fusion"}
    assert set(report.left.values()) == {"the model has nothing like it"}


def test_input_feeding_starts_as_the_model_without_it(ours, save):
    text, model = ours(1, decoder_layers=2), ours(2, decoder_layers=2, **FEEDING)
    report = initialise(model, save(text))
    torch.testing.assert_close(logits_of(model), logits_of(text))
    [name] = [name for name, origin in report.taken.items() if origin]
    assert name == "decoder.recurrence.rnn.weight_ih_l0"
    assert "zero for the last result" in report.taken[name]


def test_without_input_feeding_the_columns_of_the_embedding_are_taken(ours, save):
    trained, model = ours(1, **FEEDING), ours(2)
    initialise(model, save(trained))
    found, whole = (m.decoder.recurrence.rnn.weight_ih_l0 for m in (model, trained))
    assert torch.equal(found, whole[:, :8])


def test_input_feeding_of_other_widths_is_not_cut_to_fit(ours, save):
    report = initialise(ours(2, decoder_embed_dim=6, **FEEDING), save(ours(1, **FEEDING)))
    assert report.left["decoder.recurrence.rnn.weight_ih_l0"] == (
        "its shape is (32, 16), decoder.recurrence.rnn.weight_ih_l0 has (32, 12)"
    )


def test_separate_embeddings_start_from_one_matrix(ours, save):
    trained, model = ours(1, share_all_embeddings=True), ours(2)
    initialise(model, save(trained))
    assert_same(model.state_dict(), trained.state_dict())
    assert model.encoder.embed_tokens.weight is not model.decoder.embed_tokens.weight


def test_one_matrix_cannot_be_several(ours, save):
    model = ours(2, share_decoder_input_output_embed=True)
    report = initialise(model, save(ours(1)))
    tied = {"decoder.embed_tokens.weight", "decoder.output_projection.weight"}
    assert report.left.keys() == set(report.kept) == tied
    for reason in report.left.values():
        assert "one matrix for decoder.embed_tokens.weight, decoder.output_projection" in reason


def test_a_checkpoint_in_half_precision(ours, save):
    trained, model = ours(1), ours(2)
    initialise(model, save(trained.half()))
    assert_same(model.state_dict(), trained.float().state_dict())


def test_no_random_number_is_drawn(ours, fairseqs, save):
    path, model = save(fairseqs()), ours()
    before = torch.get_rng_state()
    initialise(model, path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_report_is_logged(ours, fairseqs, save, caplog):
    path, model = save(fairseqs(), with_symbols=False), ours()
    with caplog.at_level(logging.INFO):
        report = initialise(model, path)
    assert str(report) in caplog.text
    lines = str(report).splitlines()
    assert lines[0] == f"{path}: 18 of the model's 20 tensors were taken from it"
    for line in (
        "- taken: encoder.embed_tokens.weight (times 0.3536)",
        "- taken: decoder.recurrence.query.weight from decoder.attention.input_proj.weight "
        "(times 3.464)",
        "- taken: decoder.recurrence.rnn.weight_ih_l0 from decoder.layers.0.weight_ih "
        "(only what reads the embedding)",
        "- not taken: decoder.fc_out.bias: the output layer has no bias here",
        "- stays as it was built: decoder.recurrence.initial.weight",
        "- believed: the checkpoint does not tell its 12 source symbols: they must be those of "
        "DATA in the same order",
    ):
        assert line in lines


# -- real checkpoints -----------------------------------------------------------------------------


def build_for(parse, data_bin, *options):
    """A model for the quickstart's dictionaries, as fairseq-train builds it."""
    from fairseq import tasks

    cfg = parse(*options)
    return tasks.setup_task(cfg.task).build_model(cfg.model)


def test_a_checkpoint_of_the_task(teacher, parse, data_bin):
    model = build_for(parse, data_bin)
    report = initialise(model, teacher.best)
    assert not report.kept
    assert not report.believed
    assert all(name.startswith("encoder.fusion.") for name in report.left)


def test_a_checkpoint_of_fairseqs_lstm(stock, parse, data_bin):
    options = (
        "--rnn-cell lstm --encoder-embed-dim 16 --decoder-embed-dim 16 --decoder-hidden-size 16"
    )
    model = build_for(parse, data_bin, *options.split(), "--decoder-input-feeding")
    report = initialise(model, stock("lstm").last)
    assert len(report.believed) == 2
    assert all(name.startswith("decoder.recurrence.initial.") for name in report.kept)
    [theirs], _ = checkpoint_utils.load_model_ensemble([str(stock("lstm").last)])
    assert torch.equal(
        model.decoder.recurrence.rnn.weight_ih_l0, theirs.decoder.layers[0].weight_ih
    )


# -- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def refused():
    """`refused(model, path, message)`: the error comes, and the model is as it was."""

    def check(model, path, message):
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(CheckpointError, match=message) as error:
            initialise(model, path)
        assert_same(model.state_dict(), before)
        return error.value.problems

    return check


def test_no_checkpoint_is_refused(ours, refused, tmp_path):
    refused(ours(), tmp_path / "none.pt", r"none\.pt does not exist")


def test_another_architecture_is_refused(ours, stock, refused):
    refused(
        ours(), stock("transformer").last, "has the architecture transformer; a cross_modal_rnn"
    )


def test_another_model_is_refused(ours, fairseqs, save, refused):
    refused(fairseqs(), save(ours()), "only a cross_modal_rnn .* can start .* not a LSTMModel")


def test_other_heads_of_the_decoders_attention_are_refused(ours, save, refused):
    path = save(ours(decoder_attention_heads=1), settings={"decoder_attention_heads": 1})
    model = ours(decoder_attention_heads=4)
    message = "has --decoder-attention-heads 1, this model 4, .* give --decoder-attention-heads 1"
    refused(model, path, message)


def test_other_dictionaries_are_refused(ours, save, refused, make_dictionary):
    model = ours(dictionary=make_dictionary("abcdefhg"))
    problems = refused(model, save(ours()), "symbol 10 is 'g' in the first and 'h' in the second")
    assert [problem.split(" dictionary")[0].split()[-1] for problem in problems] == [
        "source", "target"
    ]  # fmt: skip


def test_without_symbols_their_number_is_compared(ours, save, refused, make_dictionary):
    path = save(ours(), with_symbols=False)
    message = "source dictionary .* the first has 12 symbols, the second 13"
    refused(ours(dictionary=make_dictionary("abcdefghi")), path, message)


def test_a_checkpoint_of_which_nothing_fits_is_refused(ours, save, refused):
    model = ours(
        rnn_cell="gru", encoder_embed_dim=6, encoder_hidden_size=10, decoder_embed_dim=6,
        decoder_hidden_size=6,
    )  # fmt: skip
    refused(model, save(ours()), r"(?s)nothing of .* fits this model.*\n.*shape is \(12, 8\)")
