"""Curating the example's images with the real command."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app.contract.curation import Curation
from tests.conftest import BACKDOORED, SAMPLES

GIVEN = [SAMPLES, "--model", BACKDOORED]


def test_the_chosen_images_lie_ready_to_be_labelled(sanitizer_command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = sanitizer_command(["curate", *GIVEN, "--budget", "30", "--strategy", "energy", "--out", out])
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    report = json.loads((out / "curated.json").read_text())
    jsonschema.validate(report, Curation.model_json_schema())
    images = sorted((out / "images").iterdir())
    assert len(images) == len(report["chosen"]) == 30
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in images)
    assert "/" in report["chosen"][0]["name"], "names of the pool stay nested"
    assert "A person must label each of them." in done.out
    assert "warning: The normalisation was guessed without labels: cifar10" in done.out
    assert str(out / "images") in done.out


def test_json_stands_alone_and_the_draw_is_the_default(sanitizer_command: Any) -> None:
    asked = ["curate", *GIVEN, "--budget", "5", "--normalize", "cifar10", "--json"]
    report = json.loads(sanitizer_command(asked).out)
    assert (report["strategy"], report["seed"], len(report["chosen"])) == ("random", 0, 5)
    assert report["reproduce"].startswith("sanitizer curate")


@pytest.mark.parametrize(
    ("given", "code", "problem"),
    [
        (["--budget", "0"], 4, "options.invalid"),
        (["--budget", "501"], 4, "options.budget"),
        (["--budget", "5", "--strategy", "guess"], 4, "options.usage"),
        (["--budget", "5", "--out", BACKDOORED / "chosen"], 2, "output.unwritable"),
        ([], 4, "options.usage"),
    ],
)
def test_what_cannot_be_chosen_is_a_problem(
    sanitizer_command: Any, given: list[object], code: int, problem: str
) -> None:
    done = sanitizer_command(["curate", *GIVEN, *given])
    assert (done.code, f"[{problem}]" in done.err) == (code, True), done.err
    assert "remedy: " in done.err
    assert done.out == ""
