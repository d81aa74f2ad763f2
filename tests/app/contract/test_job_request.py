"""Which inputs make which job."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from app.contract.capabilities import CAPABILITIES
from app.contract.job import JobKind, JobRequest

INPUT = {"digest": f"sha256:{'0' * 64}"}


def request(kind: str, *inputs: str, **more: Any) -> JobRequest:
    asked = {"kind": kind, "inputs": dict.fromkeys(inputs, INPUT), **more}
    return JobRequest.model_validate_json(json.dumps(asked))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("sanitize", ("model", "samples")),
        ("sanitize", ("model", "samples", "triggered")),
        ("detect", ("model", "samples", "triggered")),
        ("screen", ("model", "samples", "suspects")),
    ],
)
def test_inputs_that_make_a_job(kind: str, inputs: tuple[str, ...]) -> None:
    assert [part.value for part in request(kind, *inputs).inputs.by_kind()] == list(inputs)


@pytest.mark.parametrize(
    ("kind", "inputs", "why"),
    [
        ("screen", ("model", "samples"), "A job of the kind 'screen' needs 'suspects'"),
        ("screen", ("model", "samples", "suspects", "triggered"), "the kind 'screen' takes no 'triggered'"),
        ("sanitize", ("model", "samples", "suspects"), "the kind 'sanitize' takes no 'suspects'"),
        ("detect", ("model", "samples", "suspects"), "the kind 'detect' takes no 'suspects'"),
    ],
)
def test_inputs_that_make_none(kind: str, inputs: tuple[str, ...], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        request(kind, *inputs)


def test_a_screening_has_no_target() -> None:
    with pytest.raises(ValidationError, match="no triggered samples"):
        request("screen", "model", "samples", "suspects", triggered_target=1)


def test_every_kind_publishes_its_inputs() -> None:
    assert {kind: (told.needs, told.takes) for kind, told in CAPABILITIES.kinds.items()} == {
        kind: (kind.needs, kind.takes) for kind in JobKind
    }
