"""What the commands `limits` and `confinement` tell."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.contract.confinement import Confinement, Level
from app.contract.limits import InputLimits, input_limits
from app.errors import SettingsError
from app.settings import environment, read_settings

Command = Callable[..., Any]


def test_the_limits_are_those_that_the_readers_keep(sanitizer_command: Command) -> None:
    assert InputLimits.model_validate_json(sanitizer_command(["limits", "--json"]).out) == input_limits()
    printed = sanitizer_command(["limits"]).out
    assert len(printed.splitlines()) == sum(len(group) for group in input_limits().model_dump().values())
    assert "samples.pixels" in printed
    assert "16,777,216" in printed


def test_every_limit_is_positive_and_can_only_be_a_number() -> None:
    for group in input_limits().model_dump().values():
        assert all(type(value) is int and value > 0 for value in group.values())


def test_the_confinement_of_this_machine_is_printed(sanitizer_command: Command) -> None:
    found = Confinement.model_validate(json.loads(sanitizer_command(["confinement", "--json"]).out))
    assert found.level is Level.FULL
    done = sanitizer_command(["confinement"])
    assert done.code == 0
    assert done.out.splitlines()[-1].split() == ["level", "full"]


def test_a_level_that_nobody_knows_is_refused(sanitizer_command: Command) -> None:
    assert sanitizer_command(["confinement", "--required", "some"]).code == 4


def test_a_limit_is_a_setting(sanitizer_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANITIZER_READING__SAMPLES__IMAGES", "7")
    found = InputLimits.model_validate_json(sanitizer_command(["limits", "--json"]).out)
    assert found.samples.images == 7
    assert found.model == input_limits().model
    read = read_settings()
    assert read.reading == found
    assert environment(read)["SANITIZER_READING__SAMPLES__IMAGES"] == "7"


@pytest.mark.parametrize("value", ["0", "many", "-1"])
def test_a_limit_that_is_none_is_refused(
    sanitizer_command: Command, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SANITIZER_READING__MODEL__TENSORS", value)
    done = sanitizer_command(["limits"])
    assert (done.code, "SANITIZER_READING__MODEL__TENSORS" in done.err) == (4, True)
    with pytest.raises(SettingsError, match="SANITIZER_READING__MODEL__TENSORS"):
        read_settings()
