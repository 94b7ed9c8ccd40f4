"""What holds of the cross_modal_transformer alone; test_cross_modal_models.py has the rest.

Letters: B sentences, S source tokens, T target tokens, R image regions, L layers, H heads.
"""

from argparse import Namespace
from types import SimpleNamespace

import fairseq.models
import pytest
import torch
from fairseq import options
from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from caf_dkd_plugin.models.cross_modal_transformer import CrossModalTransformerModel
from caf_dkd_plugin.models.cross_modal_transformer.layers import RecordedAttention

PAD, EOS = 1, 2
IMAGES = {"image_feature_size": 10}
PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}
NO_DROPOUT = dict.fromkeys(
    ("dropout", "attention_dropout", "activation_dropout", "fusion_dropout"), 0.0
)
FAMILIES = {"encoder_self": (2, 2), "decoder_self": (3, 3), "cross": (3, 3)}
"""family -> layers and heads of the small model"""


@pytest.fixture(scope="module")
def build(build):
    """A function that builds it: (settings, source=, target=, **settings of the task) -> model."""

    def build_transformer(settings=(), **others):
        return build({"arch": "cross_modal_transformer", **dict(settings)}, **others)

    return build_transformer


# -- fairseq's transformer ------------------------------------------------------------------------


@pytest.fixture
def fairseqs(small, dictionaries):
    """A function that builds fairseq's ``transformer`` of the same sizes, in eval: (settings)."""
    sizes = small(CrossModalTransformerModel.config)

    def build(settings, target=dictionaries[1]):
        torch.manual_seed(3)
        task = SimpleNamespace(source_dictionary=dictionaries[0], target_dictionary=target)
        args = Namespace(arch="transformer", **{**sizes, **settings})
        model = fairseq.models.build_model(args, task).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        return model

    return build


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**PRE_NORM, "activation_fn": "gelu"},
        {"share_decoder_input_output_embed": True},
        {"share_all_embeddings": True, "decoder_embed_dim": 8, "decoder_attention_heads": 4},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
@torch.no_grad()
def test_without_images_it_is_fairseqs_transformer(
    settings, build, fairseqs, items, dictionaries, logits_of, translate, assert_close
):
    target = dictionaries["share_all_embeddings" not in settings]
    ours, theirs = build(settings, target=target), fairseqs(settings, target=target)
    ours.load_state_dict(without_copies(theirs.state_dict()), strict=True)
    items = [item._replace(target=item.target.clamp(max=len(target) - 1)) for item in items]
    found, expected = (logits_of(model, items, images=False) for model in (ours, theirs))
    assert_close(found, expected)
    assert max(logits.abs().max() for logits in found) > 1
    if target is dictionaries[1]:
        items = [item._replace(features=None, regions=None) for item in items]
        for one, other in zip(*(translate(model, items, images=False) for model in (ours, theirs))):
            assert [h["tokens"].tolist() for h in one] == [h["tokens"].tolist() for h in other]


def test_with_the_same_seed_it_starts_as_fairseqs_transformer(small, dictionaries):
    found = []
    for arch in ("transformer", "cross_modal_transformer"):
        parser = options.get_training_parser()
        arguments = ["DATA", "--task", "translation", "--arch", arch, "--dropout", "0.1"]
        for name, size in small(CrossModalTransformerModel.config).items():
            if not name.startswith(("fusion", "max")):
                arguments += [f"--{name.replace('_', '-')}", str(size)]
        cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
        torch.manual_seed(1)
        source, target = dictionaries
        task = SimpleNamespace(cfg=cfg.task, source_dictionary=source, target_dictionary=target)
        cfg.task.left_pad_source = False
        found.append(fairseq.models.build_model(cfg.model, task))
    theirs, ours = (without_copies(model.state_dict()) for model in found)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name
    assert found[0].max_positions() == found[1].max_positions() == (1024, 1024)


def without_copies(weights):
    """What fairseq 0.12.2's encoder layers have twice left out, and what is no weight."""
    copies = tuple(f"{part}_{kind}" for part in PARTS for kind in ("weight", "bias"))
    return {n: w for n, w in weights.items() if not n.endswith((*copies, "_float_tensor"))}


PARTS = ("in_proj", "out_proj", "fc1", "fc2")


def test_checkpoints_are_the_same_with_every_version_of_fairseq(build):
    """fairseq 0.12.2 adds an empty tensor to sinusoids, and takes a checkpoint without it."""
    model = build({"encoder_layers": 1, "decoder_layers": 1})
    weights = {n: w for n, w in model.state_dict().items() if not n.endswith("_float_tensor")}
    attention = {f"{name}_proj" for name in "qkv"} | {"out_proj"}
    norms = {"self_attn_layer_norm", "final_layer_norm"}
    encoder = {"fc1", "fc2", *norms, *(f"self_attn.{name}" for name in attention)}
    decoder = {*encoder, "encoder_attn_layer_norm", *(f"encoder_attn.{name}" for name in attention)}
    expected = {"decoder.output_projection.weight"}
    for side, parts in (("encoder", encoder), ("decoder", decoder)):
        expected |= {f"{side}.version", f"{side}.embed_tokens.weight"}
        expected |= {f"{side}.layers.0.{part}.{k}" for part in parts for k in ("weight", "bias")}
    assert weights.keys() == expected
    model.load_state_dict(weights, strict=True)


# -- attention maps -------------------------------------------------------------------------------


def maps_of(model, batch):
    return model(**batch, need_maps=True)[1]["maps"]


@torch.no_grad()
def test_the_heads_of_the_first_layer_come_first(build, items, collate):
    """A layer whose queries are zero attends to everything alike; so it is seen where its heads are."""
    for family, (layers, heads) in FAMILIES.items():
        for layer in range(layers):
            model, batch = build(IMAGES), collate([items[0]])
            side, part = {
                "encoder_self": (model.encoder, "self_attn"),
                "decoder_self": (model.decoder, "self_attn"),
                "cross": (model.decoder, "encoder_attn"),
            }[family]
            query = getattr(side.layers[layer], part).q_proj
            query.weight.zero_()
            query.bias.zero_()
            last_rows = maps_of(model, batch)[family][0, :, -1]  # (L * H, K): all keys are seen
            uniform = (last_rows - 1 / last_rows.size(1)).abs().amax(dim=1) < 1e-6
            expected = torch.arange(layers * heads) // heads == layer
            assert torch.equal(uniform, expected), (family, layer)


def test_no_target_token_attends_to_those_after_it(build, items, collate):
    maps = maps_of(build(), collate(items, images=False))
    columns = maps["decoder_self"].size(-1)
    future = torch.ones(columns, columns).triu(1).bool()
    assert (maps["decoder_self"][..., future] == 0).all()
    assert (maps["decoder_self"][0, :, 1, :2] > 0).all()


def test_maps_do_not_know_the_dropout_of_attention(build, items, collate, assert_close):
    """What a layer reads depends on the dropout in those before it; the first has none before it."""
    model, batch = build({**IMAGES, **NO_DROPOUT, "attention_dropout": 0.5}), collate(items)
    expected, in_training = maps_of(model, batch), maps_of(model.train(), batch)
    for family in ("encoder_self", "decoder_self"):
        heads = FAMILIES[family][1]
        maps = in_training[family], expected[family]
        assert_close(*(x[:, :heads] for x in maps))
        assert not torch.allclose(*(x[:, heads:] for x in maps), atol=1e-2)


def test_a_word_looks_at_the_image_wherever_it_stands(build, items, encode, assert_close):
    model, item = build(IMAGES), items[0]
    order = torch.tensor([2, 0, 1, 3, 4])
    moved = item._replace(source=item.source[order])
    found, expected = (encode(model, [one], need_maps=True) for one in (moved, item))
    assert_close(found["fusion_map"], expected["fusion_map"][:, :, order])
    assert not torch.allclose(found["encoder_out"][0], expected["encoder_out"][0][order], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_on_maps_teaches_the_model(family, build, items, collate):
    model = build(IMAGES).train()
    maps_of(model, collate(items))[family][..., 0].square().sum().backward()
    side = model.encoder if family == "encoder_self" else model.decoder
    for layer in side.layers:
        attention = layer.encoder_attn if family == "cross" else layer.self_attn
        assert attention.q_proj.weight.grad.abs().max() > 1e-6
        assert attention.k_proj.weight.grad.abs().max() > 1e-6


def test_nothing_is_recorded_that_nobody_asked_for(build, items, collate):
    model, batch = build(), collate(items, images=False)
    model(**batch, need_maps=True)
    with pytest.raises(AttributeError):
        model.decoder(None, model.encoder(batch["src_tokens"]), need_maps=True)
    attentions = [module for module in model.modules() if isinstance(module, RecordedAttention)]
    assert len(attentions) == 2 + 2 * 3
    assert all(attention.record is None for attention in attentions)
    encoder_out = model.encoder(batch["src_tokens"])
    assert encoder_out.keys() == {"encoder_out", "encoder_padding_mask"}


@torch.no_grad()
def test_maps_of_a_step_are_the_last_rows(build, items, collate, encode, assert_close):
    model, state = build(IMAGES), {}
    tokens, encoder_out = collate(items)["prev_output_tokens"], encode(model, items, need_maps=True)
    tokens = tokens.masked_fill(tokens.eq(PAD), 5)
    for length in range(1, 4):
        seen = tokens[:, :length]
        _, extra = model.decoder(seen, encoder_out, incremental_state=state, need_maps=True)
        _, expected = model.decoder(seen, encoder_out, need_maps=True)
        for family in ("decoder_self", "cross"):
            assert_close(extra["maps"][family], expected["maps"][family][:, :, -1:])
            for mask, whole in zip(extra["map_masks"][family], expected["map_masks"][family]):
                assert torch.equal(mask, whole[:, -mask.size(1) :])


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", NO_DROPOUT)
def test_each_dropout_is_active_in_training_only(rate, items, build, collate):
    batch = collate(items)
    for rates, random in ((NO_DROPOUT, False), ({**NO_DROPOUT, rate: 0.5}, True)):
        model = build({**IMAGES, **rates}).train()
        assert torch.equal(model(**batch)[0], model(**batch)[0]) != random
        model.eval()
        assert torch.equal(model(**batch)[0], model(**batch)[0])


def test_the_settings_reach_their_parts(build):
    values = torch.linspace(-2, 2, 9)
    model = build({**IMAGES, "activation_fn": "gelu", "encoder_normalize_before": True})
    assert [len(side.layers) for side in (model.encoder, model.decoder)] == [2, 3]
    for side, width, ffn, heads in ((model.encoder, 8, 9, 2), (model.decoder, 12, 7, 3)):
        assert side.embed_tokens.embedding_dim == width
        for layer in side.layers:
            assert layer.fc1.weight.shape == (ffn, width)
            assert layer.self_attn.num_heads == heads
            assert torch.equal(layer.activation_fn(values), torch.nn.functional.gelu(values))
            assert layer.normalize_before == (side is model.encoder)
    assert all(layer.encoder_attn.k_proj.in_features == 8 for layer in model.decoder.layers)
    assert model.max_positions() == (50, 60)


CONTRADICTIONS = [
    ({"dropout": 1.0}, "--dropout 1.0 must be at least 0 and below 1"),
    ({"activation_dropout": -0.1}, "--activation-dropout -0.1 must be at least 0 and below 1"),
    ({"encoder_layers": 0}, "--encoder-layers 0 must be at least 1"),
    ({"decoder_layers": 0}, "--decoder-layers 0 must be at least 1"),
    ({"encoder_attention_heads": 3}, "--encoder-attention-heads 3 does not divide .*-dim 8"),
    ({"decoder_attention_heads": 5}, "--decoder-attention-heads 5 does not divide .*-dim 12"),
    ({"decoder_attention_heads": 0}, "--decoder-attention-heads 0 must be at least 1"),
    ({"fusion_heads": 3, **IMAGES}, "--fusion-heads 3 does not divide --fusion-dim 8"),
    ({"share_all_embeddings": True}, "--share-all-embeddings needs one joint dictionary"),
    ({"share_all_embeddings": True}, "--share-all-embeddings needs equal widths"),
    ({"image_finetune_from": "layer4"}, "--image-finetune-from layer4 needs pictures"),
]


@pytest.mark.parametrize(("settings", "message"), CONTRADICTIONS)
def test_contradictory_settings_are_refused(settings, message, build):
    with pytest.raises(ValueError, match=message):
        build(settings)


def test_all_contradictions_come_in_one_error(build):
    settings = {"decoder_layers": 0, "encoder_attention_heads": 3, "fusion_heads": 3, **IMAGES}
    with pytest.raises(ValueError, match="cross_modal_transformer:") as error:
        build({**settings, "share_all_embeddings": True}, left_pad_source=True)
    assert str(error.value).count("\n- ") == 6


def test_the_same_name_is_registered_with_fairseq():
    registered = fairseq.models.MODEL_REGISTRY["cross_modal_transformer"]
    assert registered is CrossModalTransformerModel


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_in_bfloat16_the_slow_kernel_is_not_used(dtype):
    attention = RecordedAttention(16, 2, self_attention=True).to(dtype)
    x = torch.randn(5, 3, 16, dtype=dtype, requires_grad=True)  # (S, B, d)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        attention(x, x, x, need_weights=False)[0].sum().backward()
    fused = any("flash" in event.name for event in profile.events())
    assert fused == (dtype == torch.float32)


# -- dropout while it translates ------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["CrossModalFusion", "CrossModalAttention", None])
def test_retained_dropout_is_that_of_the_fusion_too(chosen, build):
    model = build({**IMAGES, **NO_DROPOUT, "fusion_dropout": 0.5}).eval()
    cfg = OmegaConf.structured(FairseqConfig())
    cfg.generation.retain_dropout = True
    cfg.generation.retain_dropout_modules = None if chosen is None else [chosen]
    image = {"image_features": torch.randn(1, 3, 10), "image_mask": torch.ones(1, 3).bool()}
    sentence = torch.tensor([[4, 5, EOS]]), torch.tensor([3])

    def fused():
        with torch.no_grad():
            return model.encoder(*sentence, **image)["encoder_out"][0]

    assert torch.equal(fused(), fused())
    model.prepare_for_inference_(cfg)
    assert not torch.equal(fused(), fused())
