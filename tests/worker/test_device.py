"""The placement is the same every time, is found quickly, and moves a module as a whole."""

import time

import pytest
import torch
from torch import Tensor, nn

from app.errors import OptionsError
from worker.device import Placement, place, seconds

CPU = torch.device("cpu")
CALLS = 5


def test_every_call_gives_one_answer_quickly() -> None:
    started = time.process_time()
    placements = {place("cpu") for _ in range(CALLS)}
    assert len(placements) == 1
    assert (time.process_time() - started) / CALLS < 1.5 * torch.get_num_threads()


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionsError) as refused:
        place("cuda")
    assert refused.value.code == "options.device"
    assert place("auto").device == CPU


def test_placing_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    place("cpu")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_clear_difference_decides(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr("worker.device.seconds", lambda *works: [1.0, factor][: len(works)])
    chosen = place("cpu")
    assert chosen.precision == (torch.bfloat16 if factor < 1 else torch.float32)
    assert chosen.memory_format == (torch.channels_last if factor < 1 else torch.contiguous_format)


def test_a_tie_keeps_float32_and_goes_to_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.device.seconds", lambda *works: [1.0 for _ in works])
    assert place("cpu") == Placement(CPU, torch.float32, torch.channels_last)


def test_works_take_turns_and_the_slower_takes_longer() -> None:
    calls = []

    def work(name: str, wait: float) -> Tensor:
        calls.append(name)
        time.sleep(wait)
        return torch.zeros(1)

    quick, slow = seconds(lambda: work("quick", 0.001), lambda: work("slow", 0.02))
    assert quick < slow
    assert calls[:4] == ["quick", "slow", "quick", "slow"]
    assert calls.count("quick") == calls.count("slow")


def test_one_very_slow_work_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.device.BUDGET", 0.0)
    calls = []
    seconds(lambda: calls.append(None) or torch.zeros(1))
    assert len(calls) == 2  # the first warms up


def test_take_changes_the_layout_of_convolutions_and_no_value() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    taken = Placement(CPU, memory_format=torch.channels_last).take(module)
    assert taken is module
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("precision", "computed"), [(torch.float32, torch.float32), (torch.bfloat16,) * 2])
def test_autocast_is_on_only_for_a_lower_precision(precision: torch.dtype, computed: torch.dtype) -> None:
    with Placement(CPU, precision).autocast():
        assert nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == computed
