"""Small models of both architectures, and sentences for them.

Letters: B sentences, S source tokens, T target tokens, R image regions, D feature size, V vocabulary.
"""

from types import SimpleNamespace
from typing import NamedTuple

import fairseq.models
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.sequence_generator import SequenceGenerator
from omegaconf import OmegaConf

from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig
from caf_dkd_plugin.models.cross_modal_transformer import CrossModalTransformerConfig

PAD, EOS = 1, 2
R, D = 3, 10

FUSION = {"fusion_dim": 8, "fusion_heads": 2, "fusion_ffn_dim": 9}
SMALL = {
    CrossModalRNNConfig: {
        "encoder_embed_dim": 8, "encoder_hidden_size": 12,
        "decoder_embed_dim": 10, "decoder_hidden_size": 14, "decoder_attention_heads": 2, **FUSION,
    },
    CrossModalTransformerConfig: {
        "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 9, "encoder_layers": 2,
        "encoder_attention_heads": 2, "decoder_embed_dim": 12, "decoder_ffn_embed_dim": 7,
        "decoder_layers": 3, "decoder_attention_heads": 3, "max_source_positions": 50,
        "max_target_positions": 60, **FUSION,
    },
}  # fmt: skip


def make_dictionary(symbols):
    dictionary = Dictionary()
    for symbol in symbols:
        dictionary.add_symbol(symbol)
    return dictionary


SOURCE, TARGET = make_dictionary("abcdefgh"), make_dictionary("ABCDEFGHIJ")


class Item(NamedTuple):
    source: torch.Tensor
    """(S,), ends in EOS"""
    target: torch.Tensor
    """(T,), begins with EOS: what the decoder reads"""
    features: torch.Tensor
    """(R, D)"""
    regions: torch.Tensor
    """(R,) bool"""


def pad(rows, columns):
    rows = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return torch.nn.functional.pad(rows, (0, columns), value=PAD)


@pytest.fixture(scope="session")
def dictionaries():
    """The source's of 12 symbols, the target's of 14."""
    return SOURCE, TARGET


@pytest.fixture(scope="session")
def small():
    """A function that gives the sizes of :func:`build` by config."""
    return SMALL.__getitem__


@pytest.fixture(scope="session")
def build():
    """A function that gives a model from fairseq's registry, in eval, decided by its large weights.

    (settings with "arch", source=, target=, **settings of the task) -> model
    """

    def build(settings, source=SOURCE, target=TARGET, **task_cfg):
        torch.manual_seed(5)
        settings = dict(settings)
        arch = settings.pop("arch")
        config = CrossModalRNNConfig if "_rnn" in arch else CrossModalTransformerConfig
        cfg = OmegaConf.structured(config(**{**SMALL[config], **settings}))
        cfg._name = arch
        task = SimpleNamespace(
            cfg=SimpleNamespace(**task_cfg), source_dictionary=source, target_dictionary=target
        )
        model = fairseq.models.build_model(cfg, task)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "layer_norm" not in name:  # of a Transformer, in which large ones add up
                    parameter.mul_(2)
        return model.eval()

    return build


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


@pytest.fixture(scope="session")
def collate():
    """A function that gives what the model takes: (items, extra pad columns, images) -> batch."""

    def collate(items, source_columns=0, target_columns=0, images=True):
        batch = {
            "src_tokens": pad([item.source for item in items], source_columns),
            "src_lengths": torch.tensor([len(item.source) for item in items]),
            "prev_output_tokens": pad([item.target for item in items], target_columns),
        }
        if images:
            batch["image_features"] = torch.stack([item.features for item in items])
            batch["image_mask"] = torch.stack([item.regions for item in items])
        return batch

    return collate


@pytest.fixture(scope="session")
def encode(collate):
    """A function that gives the encoder's output: (model, items, need_maps=)."""

    def encode(model, items, **asked):
        batch = collate(items)
        del batch["prev_output_tokens"]
        return model.encoder(**batch, **asked)

    return encode


@pytest.fixture(scope="session")
def logits_of(collate):
    """A function that gives the logits (T, V) of each item, without padding: (model, items, ...)."""

    @torch.no_grad()
    def logits_of(model, items, **kwargs):
        logits, _ = model(**collate(items, **kwargs))
        return [row[: len(item.target)] for row, item in zip(logits, items)]

    return logits_of


@pytest.fixture(scope="session")
def translate(collate):
    """A function that gives fairseq's beam search: (model, items) -> for each item its hypotheses."""

    def translate(model, items, images=True):
        batch = collate(items, images=images)
        del batch["prev_output_tokens"]
        generator = SequenceGenerator([model], TARGET, beam_size=3, max_len_b=7)
        return generator.generate([model], {"net_input": batch})

    return translate


@pytest.fixture(scope="session")
def assert_close():
    """A function that compares tensors, or lists of them."""

    def assert_close(found, expected):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    return assert_close
