"""Presets that a checkpoint does not need to know: their values are written out."""

from argparse import Namespace
from typing import Type

from ...bfloat16 import without_tpu
from .config import CrossModalConfig


def apply_preset(settings, model: str, config: Type[CrossModalConfig], **preset) -> None:
    """Give each field of a preset that --arch leaves open its value, and name the model itself.

    So a checkpoint names the model and has every value written out. fairseq calls a preset again when
    it builds a model whose settings still name one. By then every field has a value: in the
    checkpoint of an earlier version the preset's, but fairseq-hydra-train knows no presets.

    Args:
        settings: the parsed command line, or the settings of the model to build.
        model: the name under which the model is registered.
        config: its settings.
        preset: the fields and their values.

    Raises:
        ValueError: the preset is named, but its fields have the model's defaults.
    """
    if isinstance(settings, Namespace):
        without_tpu(settings)
        for name, value in preset.items():
            setattr(settings, name, getattr(settings, name, value))
        settings.arch = model
        return
    ignored = [
        f"{name} is {getattr(config, name)}, not {value}"
        for name, value in preset.items()
        if value != getattr(config, name) == getattr(settings, name, None)
    ]
    if ignored:
        fields = ", ".join(f"{name}: {value}" for name, value in preset.items())
        raise ValueError(
            f"the preset {settings._name} has no effect in a YAML, only with --arch: "
            f"{'; '.join(ignored)}. Write the model out, as in examples/quickstart/configs: "
            f"model: {{_name: {model}, {fields}}}"
        )
