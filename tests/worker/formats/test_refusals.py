"""What a refusal tells to do is done here, and gives a file that is read."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.errors import ModelError
from worker.formats.stored import read_stored


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 3)


def weights() -> dict[str, Tensor]:
    return dict(network().state_dict())


def remedy_of(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_stored(path)
    assert caught.value.code == "model.unsafe_pickle"
    return caught.value.remedy


def assert_saves_weights(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(code, {"torch": torch})  # noqa: S102 - our own words
    stored = read_stored(folder / "weights.pt")
    assert {key: tensor.tolist() for key, tensor in stored.tensors.items()} == {
        key: tensor.tolist() for key, tensor in weights().items()
    }


def lines(remedy: str) -> list[str]:
    said, *code = remedy.split("\n")
    assert "Where you trust the file, whose code this runs" in said
    return [line.strip() for line in code]


FOREIGN: dict[str, Callable[[], object]] = {
    "a whole module": network,
    "arguments beside": lambda: {"state_dict": weights(), "args": argparse.Namespace(lr=0.1)},
    "arguments first": lambda: {"args": argparse.Namespace(lr=0.1), "state_dict": weights()},
    "a number of numpy": lambda: {"epoch": 3, "best": np.float64(0.9), "state_dict": weights()},
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_what_is_more_than_weights_is_told_how_to_save_the_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]
) -> None:
    torch.save(make(), tmp_path / "model.pt")
    assert_saves_weights("\n".join(lines(remedy_of(tmp_path / "model.pt"))), tmp_path, monkeypatch)


def test_weights_under_another_key_are_saved_by_that_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"net": weights(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "model.pt")
    remedy = remedy_of(tmp_path / "model.pt")
    assert '"net"' in remedy
    code = "\n".join(lines(remedy)).replace("state_dict", "net")
    assert_saves_weights(code, tmp_path, monkeypatch)


@pytest.mark.parametrize("protocol", [1, 3, 4, 5])  # torch itself does not read what it saves in 0
def test_another_protocol_is_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    torch.save(weights(), tmp_path / "model.pt", pickle_protocol=protocol)
    said, _, code = remedy_of(tmp_path / "model.pt").partition(": ")
    assert said == "Where you trust the file, whose code this runs"
    assert_saves_weights(code, tmp_path, monkeypatch)


def test_where_the_case_is_unknown_both_ways_are_named(tmp_path: Path) -> None:
    torch.save([argparse.Namespace(lr=0.1)], tmp_path / "model.pt")
    _, nested, whole = lines(remedy_of(tmp_path / "model.pt"))
    assert nested.startswith('torch.save(loaded["state_dict"], "weights.pt")')
    assert whole.startswith('torch.save(loaded.state_dict(), "weights.pt")')
