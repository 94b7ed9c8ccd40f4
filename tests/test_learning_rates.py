import copy

import pytest
import torch
from fairseq.optim.nag import NAG

from caf_dkd_plugin.learning_rates import scaled_learning_rates

RATE = 0.1


def two_weights(optimiser, **options):
    """Two equal weights, one of them of the group "slow", and their optimiser."""
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    weights[1].param_group = "slow"
    return weights, optimiser(weights, lr=RATE, **options)


def step(weights, optimizer, factors):
    for weight in weights:
        weight.grad = torch.tensor([1.0, -2.0, 3.0])
    with scaled_learning_rates(optimizer.param_groups, factors):
        optimizer.step()


@pytest.mark.parametrize(
    ("optimiser", "options"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (NAG, {"momentum": 0.9}),
    ],
)
def test_it_is_the_step_of_an_optimiser_with_that_rate(optimiser, options):
    weights, optimizer = two_weights(optimiser, **options)
    alone = torch.nn.Parameter(torch.ones(3))
    reference = optimiser([alone], lr=0.25 * RATE, **options)
    for _ in range(4):
        step(weights, optimizer, {"slow": 0.25})
        alone.grad = torch.tensor([1.0, -2.0, 3.0])
        reference.step()
        torch.testing.assert_close(weights[1], alone)
    assert not torch.equal(weights[0], weights[1])


def test_the_optimiser_looks_as_before_after_the_step():
    weights, optimizer = two_weights(torch.optim.Adam)
    plain_weights, plain = two_weights(torch.optim.Adam)
    step(weights, optimizer, {"slow": 0.5})
    step(plain_weights, plain, {})
    [group] = optimizer.param_groups
    assert group["params"] == weights
    assert group["lr"] == RATE
    assert optimizer.state_dict()["param_groups"] == plain.state_dict()["param_groups"]
    torch.testing.assert_close(optimizer.state_dict()["state"], plain.state_dict()["state"])


def test_it_looks_as_before_after_an_error_too(monkeypatch):
    weights, optimizer = two_weights(torch.optim.SGD)

    def fail():
        assert len(optimizer.param_groups) == 2
        raise RuntimeError

    monkeypatch.setattr(optimizer, "step", fail)
    with pytest.raises(RuntimeError):
        step(weights, optimizer, {"slow": 0.5})
    assert [group["params"] for group in optimizer.param_groups] == [weights]


def test_what_an_optimiser_counts_in_its_groups_is_kept():
    _, optimizer = two_weights(torch.optim.SGD)
    before = copy.copy(optimizer.param_groups[0])
    with scaled_learning_rates(optimizer.param_groups, {"slow": 0.5}):
        for group in optimizer.param_groups:
            group["step"] = group.get("step", 0) + 1
    assert optimizer.param_groups[0] == {**before, "step": 1}


def test_without_such_weights_nothing_changes():
    weights = [torch.nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.SGD(weights, lr=RATE)
    with scaled_learning_rates(optimizer.param_groups, {"slow": 0.5}):
        assert [group["lr"] for group in optimizer.param_groups] == [RATE]
