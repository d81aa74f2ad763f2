"""Bad input ends with an exit code and a problem that names its remedy; never a traceback, never half an output."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = EXAMPLES / "backdoored-resnet18.safetensors"
SAMPLES = EXAMPLES / "clean-500.zip"
COMMAND = [str(Path(sys.executable).parent / "sanitizer"), "sanitize"]


def nan_weights(folder: Path) -> list[object]:
    state = load_file(MODEL)
    state["linear.bias"][0] = torch.nan
    save_file(state, folder / "nan.safetensors")
    return [folder / "nan.safetensors", "--samples", SAMPLES]


def truncated(folder: Path) -> list[object]:
    (folder / "cut.safetensors").write_bytes(MODEL.read_bytes()[:100_000])
    return [folder / "cut.safetensors", "--samples", SAMPLES]


def whole_module(folder: Path) -> list[object]:
    torch.save(torch.nn.Linear(2, 2), folder / "whole.pt")
    return [folder / "whole.pt", "--samples", SAMPLES]


def wrong_architecture(_: Path) -> list[object]:
    return [MODEL, "--samples", SAMPLES, "--architecture", "vgg16_bn_cifar"]


def labels(folder: Path, images: int, label: int) -> list[object]:
    arrays = {"images": np.zeros((images, 32, 32, 3), np.uint8), "labels": np.full(images, label)}
    np.savez(folder / "samples.npz", **arrays)
    return [MODEL, "--samples", folder / "samples.npz"]


def at_chance(folder: Path) -> list[object]:
    noise = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    np.savez(folder / "noise.npz", images=noise, labels=np.arange(60) % 10)
    return [MODEL, "--samples", folder / "noise.npz"]


def masked(folder: Path) -> list[object]:
    state = load_file(MODEL)
    state["bn1.neuron_mask"] = torch.tensor([0.0] + [1.0] * (len(state["bn1.weight"]) - 1))
    save_file(state, folder / "masked.safetensors")
    return [folder / "masked.safetensors", "--samples", SAMPLES]


def aimless(folder: Path) -> list[object]:
    """Triggered samples that do not say what they aim at."""
    np.savez(folder / "aimless.npz", images=np.zeros((5, 32, 32, 3), np.uint8), labels=np.arange(5))
    return [MODEL, "--samples", SAMPLES, "--triggered", folder / "aimless.npz"]


def of_the_target(folder: Path) -> list[object]:
    """Triggered samples whose labels are where the trigger aims, and not what the images show."""
    arrays = {"images": np.zeros((5, 32, 32, 3), np.uint8), "labels": np.full(5, 7), "targets": np.full(5, 7)}
    np.savez(folder / "triggered.npz", **arrays)
    return [MODEL, "--samples", SAMPLES, "--triggered", folder / "triggered.npz"]


SINS: list[tuple[Callable[[Path], list[object]], int, str]] = [
    (nan_weights, 3, "model.not_finite"),
    (truncated, 3, "model.truncated"),
    (whole_module, 3, "model.unsafe_pickle"),
    (masked, 3, "model.masked"),
    (aimless, 4, "options.triggered_target"),
    (of_the_target, 3, "samples.no_other_class"),
    (lambda _: [MODEL, "--samples", SAMPLES, "--triggered-target", "3"], 4, "options.triggered_target"),
    (wrong_architecture, 3, "model.architecture_mismatch"),
    (lambda folder: labels(folder, 0, 0), 3, "samples.empty"),
    (lambda folder: labels(folder, 9, 10), 3, "samples.label_out_of_range"),
    (at_chance, 3, "model.at_chance"),
    (lambda _: [MODEL, "--samples", SAMPLES, "--no-such-option"], 4, "options.usage"),
    (lambda _: [MODEL, "--samples", SAMPLES, "--seed", "-1"], 4, "options.invalid"),
    (lambda _: [MODEL, "--samples", SAMPLES, "--normalize", "mars"], 4, "options.normalize"),
]


@pytest.mark.parametrize(
    ("sin", "exit_code", "problem"), SINS, ids=[f"{s[2]}-{i}" for i, s in enumerate(SINS)]
)
def test_bad_input_is_a_problem_with_a_remedy(
    sin: Callable[[Path], list[object]], exit_code: int, problem: str, tmp_path: Path, sanitizer_command: Any
) -> None:
    out = tmp_path / "out"
    done = sanitizer_command(["sanitize", *sin(tmp_path), "--out", out])
    assert (done.code, f"[{problem}]" in done.err) == (exit_code, True), done.err
    assert "remedy: " in done.err
    assert "Traceback" not in done.err
    assert "unlearn 1/" not in done.err
    assert not out.exists()


def test_the_suspect_is_never_overwritten(tmp_path: Path, sanitizer_command: Any) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(MODEL.read_bytes())
    done = sanitizer_command(["sanitize", model, "--samples", SAMPLES, "--out", tmp_path])
    assert done.code == 4
    assert "options.out" in done.err
    assert model.read_bytes() == MODEL.read_bytes()


def test_control_c_leaves_nothing_behind(tmp_path: Path) -> None:
    def from_a_terminal() -> None:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a shell lets what it starts in the background ignore it

    out = tmp_path / "out"
    command = [*COMMAND, str(MODEL), "--samples", str(SAMPLES), "--out", str(out)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=from_a_terminal
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("unlearn")
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130, rest
    assert "job.canceled" in rest
    assert "Traceback" not in rest
    assert not out.exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, sanitized: Any, patched: Any) -> None:
    """A file size limit stands for the disk: replaying the changes needs 0.4 MB and gets 0.1."""

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    target = tmp_path / "folder" / "repaired.safetensors"
    command = [COMMAND[0], "apply", str(sanitized.folder / "changes.json"), str(patched.model), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=small_disk)
    assert done.returncode == 2, done.stderr
    assert "output.unwritable" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("out", ["out", "out/deeper/still"])
def test_an_output_that_is_a_file_is_refused_before_any_work(
    out: str, tmp_path: Path, sanitizer_command: Any
) -> None:
    (tmp_path / "out").write_text("mine")
    done = sanitizer_command(["sanitize", MODEL, "--samples", SAMPLES, "--out", tmp_path / out])
    assert done.code == 2
    assert "output.unwritable" in done.err
    assert "unlearn" not in done.err
    assert (tmp_path / "out").read_text() == "mine"
