"""docs/options.md lists every option of ours, no other, and with its default."""

import re
from pathlib import Path
from typing import List, NamedTuple

import pytest
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterionConfig
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks.translation import TranslationConfig

from caf_dkd_plugin.criterions.kd_label_smoothed_cross_entropy import (
    KDLabelSmoothedCrossEntropyCriterionConfig,
)
from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig
from caf_dkd_plugin.models.cross_modal_transformer import CrossModalTransformerConfig
from caf_dkd_plugin.tasks.multimodal_translation import MultimodalTranslationConfig

PAGE = (Path(__file__).resolve().parent.parent / "docs/options.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """A row of a table of options."""

    choice: str
    """with what the paragraph before says that one gets these options, such as "--arch cross_modal_rnn" """
    flags: List[str]
    defaults: List[str]
    """as many, or none if the table does not say"""


def option_rows(text: str) -> List[Row]:
    """Of all tables of options."""
    rows, choice, columns = [], "", []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| option"):
            columns = cells
        elif line.startswith("| `--"):
            flags = re.findall(r"`(--[\w-]+)", cells[0])
            defaults = cells[1].split(", ") if "default" in columns else []
            if len(defaults) == 1:
                defaults *= len(flags)
            rows.append(Row(choice, flags, defaults))
        elif match := re.search(r"\(`(--(?:task|criterion|arch) \w+)`", line):
            choice = match.group(1)
    return rows


CONFIGS = {
    "--task multimodal_translation": (MultimodalTranslationConfig, TranslationConfig),
    "--criterion kd_label_smoothed_cross_entropy": (
        KDLabelSmoothedCrossEntropyCriterionConfig,
        LabelSmoothedCrossEntropyCriterionConfig,
    ),
    "--arch cross_modal_rnn": (CrossModalRNNConfig, FairseqDataclass),
    "--arch cross_modal_transformer": (CrossModalTransformerConfig, FairseqDataclass),
}
"""what one chooses -> its settings, and those of fairseq's that it adds to"""
OPTIONS = option_rows(PAGE)


def own_fields(config, base):
    """The fields of a dataclass that are typed, as flags, with their defaults."""
    fields = {
        name: field.default
        for name, field in config.__dataclass_fields__.items()
        if name not in base.__dataclass_fields__ and not str(field.default).startswith("${")
    }
    return {"--" + name.replace("_", "-"): default for name, default in fields.items()}


@pytest.mark.parametrize("choice", CONFIGS)
def test_every_option_of_ours_is_listed_and_no_other(choice):
    """fairseq's --help does not list them."""
    own = own_fields(*CONFIGS[choice])
    listed = {flag for row in OPTIONS if row.choice == choice for flag in row.flags}
    unset = {"--image-feature-size", "--image-size"}  # as the page says
    if (
        choice == "--arch cross_modal_transformer"
    ):  # "has the tying, fusion and image options above"
        above = own_fields(*CONFIGS["--arch cross_modal_rnn"]).keys() & own.keys()
        listed |= {flag for flag in above if re.match("--(share|fusion|image)-", flag)}
    assert listed - unset == own.keys() - unset


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.flags[0]) for row in OPTIONS if row.defaults]
)
def test_the_defaults_are_those_of_the_code(row):
    own = own_fields(*CONFIGS[row.choice])
    assert len(row.defaults) == len(row.flags)
    for flag, written in zip(row.flags, row.defaults):
        default = own[flag]
        default = getattr(default, "value", default)  # of a choice
        if default is None or default is False:
            assert written in ("off", "none", "frozen"), flag
        elif isinstance(default, (int, float)):
            assert float(written) == default, flag
        else:
            assert written == default, flag


def test_the_reader_of_tables_reads_all():
    assert {row.choice for row in OPTIONS} == CONFIGS.keys()
    assert len(OPTIONS) == len(re.findall(r"^\| `--", PAGE, re.MULTILINE))
    head = "(`--arch x`):\n| option | default | meaning |\n| --- | --- | --- |\n"
    table = head + "| `--a`, `--b {c,d}` | 1, c | e |"
    assert option_rows(table) == [Row("--arch x", ["--a", "--b"], ["1", "c"])]
