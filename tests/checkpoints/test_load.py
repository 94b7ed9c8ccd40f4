import re

import pytest
import torch

from caf_dkd_plugin.checkpoints.load import CheckpointError, load_checkpoint


def test_a_checkpoint_is_what_fairseq_saved(teacher):
    state = load_checkpoint(teacher.best)
    saved = torch.load(teacher.best, weights_only=True)
    assert state.keys() == saved.keys()
    for name, weight in saved["model"].items():
        assert torch.equal(state["model"][name], weight)


def test_a_file_from_before_torch_1_6(tmp_path):
    path = tmp_path / "old.pt"
    saved = {"model": {"a": torch.arange(3)}}
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path)["model"]["a"].tolist() == [0, 1, 2]


def test_what_is_missing_damaged_or_foreign_is_refused(teacher, tmp_path):
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(tmp_path))} is a folder"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"x\.pt does not exist"):
        load_checkpoint(path)
    content = teacher.best.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"a list of words\n"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"x\.pt is no checkpoint that can be loaded"):
            load_checkpoint(path)
    for foreign in ([1], {"weights": 1}, {"model": None}):
        torch.save(foreign, path)
        with pytest.raises(CheckpointError, match=r"x\.pt is no fairseq checkpoint"):
            load_checkpoint(path)
