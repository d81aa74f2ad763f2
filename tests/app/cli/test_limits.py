"""What the commands `limits` and `confinement` tell."""

import json
from collections.abc import Callable
from typing import Any

from app.contract.confinement import Confinement, Level
from app.contract.limits import LIMITS, InputLimits

Command = Callable[..., Any]


def test_the_limits_are_those_that_the_readers_keep(sanitizer_command: Command) -> None:
    assert InputLimits.model_validate_json(sanitizer_command(["limits", "--json"]).out) == LIMITS
    printed = sanitizer_command(["limits"]).out
    assert len(printed.splitlines()) == sum(len(group) for group in LIMITS.model_dump().values())
    assert "samples.pixels" in printed
    assert "16,777,216" in printed


def test_every_limit_is_positive_and_can_only_be_a_number() -> None:
    for group in LIMITS.model_dump().values():
        assert all(type(value) is int and value > 0 for value in group.values())


def test_the_confinement_of_this_machine_is_printed(sanitizer_command: Command) -> None:
    found = Confinement.model_validate(json.loads(sanitizer_command(["confinement", "--json"]).out))
    assert found.level is Level.FULL
    done = sanitizer_command(["confinement"])
    assert done.code == 0
    assert done.out.splitlines()[-1].split() == ["level", "full"]


def test_a_level_that_nobody_knows_is_refused(sanitizer_command: Command) -> None:
    assert sanitizer_command(["confinement", "--required", "some"]).code == 4
