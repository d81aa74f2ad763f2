"""The offline commands themselves, up to where the work would begin."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import BACKDOORED, SAMPLES, TRIGGERED

Command = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy, beside which results are asked for."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(BACKDOORED.read_bytes())
    return path


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("sanitize", ["--out", "nowhere"]),
        ("detect", []),
        ("screen", ["--suspects", TRIGGERED]),
    ],
)
def test_a_bad_option_names_the_command_that_was_given(
    command: str, given: list[object], sanitizer_command: Command
) -> None:
    done = sanitizer_command([command, BACKDOORED, "--samples", SAMPLES, "--seed", "-1", *given])
    assert (done.code, "[options.invalid]" in done.err) == (4, True), done.err
    assert f"remedy: Run sanitizer {command} --help" in done.err


@pytest.mark.parametrize("command", ["detect", "sanitize"])
def test_a_target_without_triggered_samples_is_refused(
    command: str, tmp_path: Path, sanitizer_command: Command
) -> None:
    given = [command, BACKDOORED, "--samples", SAMPLES, "--triggered-target", "3", "--out", tmp_path / "out"]
    done = sanitizer_command(given)
    assert (done.code, "[options.triggered_target]" in done.err) == (4, True), done.err
    assert "--triggered" in done.err.splitlines()[-1]


@pytest.mark.parametrize("command", ["detect", "screen"])
def test_reports_may_lie_beside_the_model(command: str, model: Path, sanitizer_command: Command) -> None:
    """The samples are not there, so that it ends where the work would begin."""
    given = [command, model, "--samples", model.with_name("none.zip"), "--out", model.parent]
    done = sanitizer_command([*given, *(["--suspects", TRIGGERED] if command == "screen" else [])])
    assert (done.code, "[samples.not_found]" in done.err) == (3, True), done.err
    assert model.read_bytes() == BACKDOORED.read_bytes()


def test_a_choice_may_lie_beside_the_model_and_says_what_it_did_not_look_at(
    model: Path, sanitizer_command: Command
) -> None:
    pool = model.with_name("pool.npz")
    np.savez(pool, images=np.load(TRIGGERED)["images"][:20])
    with zipfile.ZipFile(pool, "a") as archive:
        archive.writestr("paper.txt", "ours")
    given = ["--model", model, "--budget", "2", "--normalize", "cifar10"]
    done = sanitizer_command(["curate", pool, *given, "--out", model.parent])
    assert done.code == 0, done.err
    assert model.read_bytes() == BACKDOORED.read_bytes()
    assert len(list(model.with_name("images").iterdir())) == 2
    assert "warning: Files that were not looked at: 1 ('paper.txt')." in done.out


def test_a_folder_for_a_model_is_named_as_it_was_given(sanitizer_command: Command) -> None:
    done = sanitizer_command(["detect", ".", "--samples", SAMPLES])
    assert (done.code, "'.' is not a file. [model.not_a_file]" in done.err) == (3, True), done.err


def test_apply_refuses_a_folder(model: Path, sanitizer_command: Command) -> None:
    folder = model.with_name("folder")
    folder.mkdir()
    done = sanitizer_command(["apply", model.with_name("changes.json"), model, folder])
    assert (done.code, "[options.out]" in done.err) == (4, True), done.err
    assert list(folder.iterdir()) == []
