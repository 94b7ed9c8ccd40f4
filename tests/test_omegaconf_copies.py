"""fairseq's settings are the same whether omegaconf 2.0 copies parents or not."""

import shlex

import omegaconf
import pytest
from omegaconf_copies import COPIES_PARENTS, copies_as_released

OPTIONS = {
    "as the tests train": "",
    "distillation": "--criterion kd_label_smoothed_cross_entropy --kd-lambda 0.3 --eval-bleu",
    "a Transformer": "--arch cross_modal_transformer_tiny --fp16 --clip-norm 0.5",
    "fairseq's own": "--task translation --arch lstm --lr-scheduler inverse_sqrt --lr 0.1,0.2",
}


def whole(node):
    """All that is in a node, and of each part whether it knows where it is."""
    if isinstance(node, omegaconf.DictConfig):
        parts = node.__dict__["_content"]
    elif isinstance(node, omegaconf.ListConfig):
        parts = dict(enumerate(node.__dict__["_content"]))
    else:
        return type(node), vars(node._metadata), node._value()
    inside = {key: (part._get_parent() is node, whole(part)) for key, part in parts.items()}
    return type(node), vars(node._metadata), inside


@pytest.mark.skipif(not COPIES_PARENTS, reason="this omegaconf leaves parents out itself")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_settings_are_the_same(parse, options):
    quick = parse(*shlex.split(options))
    with copies_as_released():
        released = parse(*shlex.split(options))
    assert whole(quick) == whole(released)
