"""Small models of ours and of fairseq's lstm, and checkpoints of them."""

from argparse import Namespace
from types import SimpleNamespace

import fairseq.models
import pytest
import torch
from fairseq.data import Dictionary
from omegaconf import OmegaConf

from caf_dkd_plugin.data.dictionaries import symbols
from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig

SMALL = {
    "rnn_cell": "lstm",
    "encoder_embed_dim": 8,
    "encoder_hidden_size": 12,
    "decoder_embed_dim": 8,
    "decoder_hidden_size": 8,
    "fusion_dim": 4,
    "fusion_heads": 2,
    "fusion_ffn_dim": 8,
}
LSTM = {
    "encoder_embed_dim": 8,
    "encoder_hidden_size": 6,
    "encoder_bidirectional": True,
    "decoder_embed_dim": 8,
    "decoder_hidden_size": 8,
    "decoder_out_embed_dim": 8,
    "criterion": "label_smoothed_cross_entropy",
}


def dictionary_of(names):
    dictionary = Dictionary()
    for name in names:
        dictionary.add_symbol(name)
    return dictionary


DICTIONARY = dictionary_of("abcdefgh")


def task_of(dictionary):
    return SimpleNamespace(
        cfg=SimpleNamespace(), source_dictionary=dictionary, target_dictionary=dictionary
    )


@pytest.fixture
def dictionary():
    return DICTIONARY


@pytest.fixture
def make_dictionary():
    """A function that gives the dictionary of these symbols."""
    return dictionary_of


@pytest.fixture
def ours():
    """A function that builds a cross_modal_rnn with LSTM cells, in eval: (seed, **settings)."""

    def build(seed=1, dictionary=DICTIONARY, **settings):
        torch.manual_seed(seed)
        cfg = OmegaConf.structured(CrossModalRNNConfig(**{"seed": seed, **SMALL, **settings}))
        cfg._name = "cross_modal_rnn"
        return fairseq.models.build_model(cfg, task_of(dictionary)).eval()

    return build


@pytest.fixture
def fairseqs():
    """A function that builds fairseq's lstm of the same sizes, in eval: (seed, **settings)."""

    def build(seed=2, **settings):
        torch.manual_seed(seed)
        args = Namespace(arch="lstm", **{**LSTM, **settings})
        model = fairseq.models.build_model(args, task_of(DICTIONARY)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10)  # so that the model is decided
        return model

    return build


@pytest.fixture
def save(tmp_path):
    """A function that writes a checkpoint as our task does, or without symbols as stock fairseq."""

    def write(model, name="model.pt", with_symbols=True, task_state=None, settings=None):
        names = symbols(model.encoder.dictionary)
        known = {"source_symbols": names, "target_symbols": names} if with_symbols else {}
        task_state = {**known, **(task_state or {})}
        path = tmp_path / name
        state = {"model": model.state_dict(), "task_state": task_state}
        torch.save({**state, "cfg": {"model": settings}} if settings else state, path)
        return path

    return write
