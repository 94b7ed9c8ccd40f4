"""The named sizes of each architecture: what they set, and that a checkpoint does not need them."""

from types import SimpleNamespace

import fairseq.models
import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig
from caf_dkd_plugin.models.cross_modal_transformer import CrossModalTransformerConfig

RNN, TRANSFORMER = "cross_modal_rnn", "cross_modal_transformer"
CONFIGS = {RNN: CrossModalRNNConfig, TRANSFORMER: CrossModalTransformerConfig}


def of_both_sides(**sizes):
    return {
        f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()
    }


PRESETS = {
    "cross_modal_rnn": {},
    "cross_modal_rnn_tiny": {
        "encoder_embed_dim": 128, "encoder_hidden_size": 128, "decoder_embed_dim": 128,
        "decoder_hidden_size": 128, "fusion_dim": 128, "fusion_ffn_dim": 256,
    },
    "cross_modal_rnn_paper": {"encoder_layers": 0, "fusion_dim": 128, "fusion_heads": 1},
    "cross_modal_transformer": {},
    "cross_modal_transformer_tiny": {
        **of_both_sides(embed_dim=128, ffn_embed_dim=256, layers=4, attention_heads=4),
        "fusion_dim": 128, "fusion_ffn_dim": 256,
    },
    "cross_modal_transformer_base": {
        **of_both_sides(embed_dim=512, ffn_embed_dim=2048, layers=6, attention_heads=8),
        "dropout": 0.1, "fusion_dim": 512, "fusion_heads": 8, "fusion_ffn_dim": 2048,
    },
}  # fmt: skip
OF_NO_PRESET = {"encoder_layers": 2, "dropout": 0.2}
NAMED = [pytest.param(arch, preset, id=arch) for arch, preset in PRESETS.items() if preset]


def model_of(arch):
    return RNN if arch.startswith(RNN) else TRANSFORMER


def from_command_line(*arguments):
    """The model's settings and all others, as fairseq-train gets them."""
    arguments = ["DATA", "--task", "translation", *arguments]
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    cfg = OmegaConf.to_container(convert_namespace_to_omegaconf(args), enum_to_str=True)
    return cfg.pop("model"), cfg


@pytest.mark.parametrize("arch", PRESETS)
def test_a_preset_sets_these_fields_of_the_model_and_nothing_else(arch):
    base, others = from_command_line("--arch", model_of(arch))
    model, other_settings = from_command_line("--arch", arch)
    assert model["_name"] == model_of(arch)  # a preset is written out
    assert model.keys() == CONFIGS[model_of(arch)].__dataclass_fields__.keys()
    assert model == {**base, **PRESETS[arch]}
    assert other_settings == others


@pytest.mark.parametrize(("arch", "preset"), NAMED)
def test_what_the_user_types_wins_over_a_preset(arch, preset):
    typed = [part for key in preset for part in (f"--{key.replace('_', '-')}", "24")]
    model, _ = from_command_line("--arch", arch, *typed)
    assert {key: model[key] for key in preset} == dict.fromkeys(preset, 24)


@pytest.mark.parametrize("arch", PRESETS)
def test_a_preset_is_built_from_the_settings_and_not_from_itself(
    arch, items, build, logits_of, assert_close
):
    """What a checkpoint or a YAML holds counts; fairseq calls the preset again when it loads one."""
    settings = {**OF_NO_PRESET, "image_feature_size": 10}
    found, expected = (build({"arch": name, **settings}) for name in (arch, model_of(arch)))
    assert_close(logits_of(found, items), logits_of(expected, items))


@pytest.mark.parametrize(("arch", "preset"), NAMED)
def test_a_preset_that_hydra_has_ignored_is_refused(arch, preset, dictionaries):
    config = CONFIGS[model_of(arch)]
    ignored = {
        name: value
        for name, value in preset.items()
        if value != config.__dataclass_fields__[name].default
    }
    cfg = OmegaConf.structured(config)
    cfg._name = arch
    with pytest.raises(ValueError, match=f"{arch} has no effect in a YAML") as error:
        fairseq.models.build_model(cfg, task_of(*dictionaries))
    named = str(error.value).partition(": ")[2].partition(". Write")[0].split("; ")
    assert [line.split()[0] for line in named] == list(ignored)
    assert f"{{_name: {model_of(arch)}, " in str(error.value)


@pytest.mark.parametrize("arch", PRESETS)
def test_a_checkpoint_older_than_a_setting_gets_its_default(arch, small, dictionaries):
    config = CONFIGS[model_of(arch)]
    sizes = {**small(config), **OF_NO_PRESET, "image_feature_size": 10}
    settings = OmegaConf.to_container(OmegaConf.structured(config(**sizes)), enum_to_str=True)
    del settings["fusion_dropout"]
    cfg = OmegaConf.create({**settings, "_name": arch})
    model = fairseq.models.build_model(cfg, task_of(*dictionaries))
    assert model.encoder.fusion.text_to_image.dropout.rate == config.fusion_dropout


def task_of(source, target):
    return SimpleNamespace(
        cfg=SimpleNamespace(), source_dictionary=source, target_dictionary=target
    )
