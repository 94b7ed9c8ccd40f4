"""Sides that are measured in turn."""

import pytest


@pytest.fixture
def rounds(benchmark):
    return benchmark("rounds")


def test_sides_take_turns_and_the_warm_up_does_not_count(rounds):
    calls = []

    def side(name):
        def run():
            calls.append(name)
            return len(calls)

        return run

    found = rounds.interleaved({name: side(name) for name in "ab"}, rounds=3, warm_up=1)
    assert "".join(calls) == "baabbaab"  # each is first as often as second
    assert found == {"a": [3, 6, 7], "b": [4, 5, 8]}


def test_speed_is_work_over_time(rounds):
    times = iter([10.0, 12.5])
    assert rounds.speed(lambda: 5, lambda: next(times))() == 2.0


def test_waiting_is_no_work_of_this_process(rounds):
    import time

    started = rounds.cpu_clock(), rounds.wall_clock()
    time.sleep(0.05)
    assert rounds.wall_clock() - started[1] >= 0.05
    assert rounds.cpu_clock() - started[0] < 0.05
