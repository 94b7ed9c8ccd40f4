import pytest
import torch

from caf_dkd_plugin.modules.retained_dropout import RetainedDropout

ONES = torch.ones(1000)


def dropped(module):
    return (module(ONES) == 0).float().mean().item()


def test_it_drops_in_training_only():
    torch.manual_seed(0)
    module = RetainedDropout(0.3, "Part")
    assert dropped(module) == pytest.approx(0.3, abs=0.05)
    assert module.rate_now == 0.3
    assert dropped(module.eval()) == module.rate_now == 0
    assert not module.state_dict()


@pytest.mark.parametrize(
    ("asked", "rate"),
    [
        ({}, 0),
        ({"retain_dropout": True}, 0.3),
        ({"retain_dropout": True, "retain_dropout_modules": ["Part", "Other"]}, 0.3),
        ({"retain_dropout": True, "retain_dropout_modules": ["Other"]}, 0),
    ],
)
def test_it_goes_on_where_it_is_asked_to(asked, rate):
    torch.manual_seed(0)
    module = RetainedDropout(0.3, "Part").eval()
    module.make_generation_fast_(name="encoder.part", **asked)
    assert module.rate_now == rate
    assert dropped(module) == pytest.approx(rate, abs=0.05)
