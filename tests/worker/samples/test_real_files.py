"""Real samples, where they are at hand: the clean half-thousand, a triggered set, and photographs in a zip."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from worker.samples.read import read_samples, read_triggered

SHARED = Path(__file__).resolve().parents[4] / "shared"
CIFAR = (3, 32, 32)


def at_hand(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not here")
    return SHARED / name


def test_the_clean_half_thousand() -> None:
    samples, warnings = read_samples(at_hand("zoo/clean-500.npz"), 10, CIFAR)
    assert samples.images.shape == (500, *CIFAR)
    assert torch.bincount(samples.labels, minlength=10).min() > 0
    assert warnings == ()


def test_a_triggered_set() -> None:
    triggered = read_triggered(at_hand("zoo/badnets-w32/triggered.npz"), 10, CIFAR)
    assert len(triggered) == len(triggered.targets)
    assert len(triggered.targets.unique()) == 1


def test_photographs_in_a_zip(tmp_path: Path) -> None:
    """A zip of ten per class out of the real one, written member by member."""
    with (
        zipfile.ZipFile(at_hand("data/cifar10-test.zip")) as source,
        zipfile.ZipFile(tmp_path / "x.zip", "w") as few,
    ):
        for name in source.namelist():
            if name.endswith(("0.jpg", "1.jpg")) and int(Path(name).stem) < 50:
                with source.open(name) as member, few.open(name, "w") as target:
                    shutil.copyfileobj(member, target)
    samples, warnings = read_samples(tmp_path / "x.zip", 10, CIFAR)
    assert samples.class_names[:2] == ("airplane", "automobile")
    assert torch.bincount(samples.labels).tolist() == [10] * 10
    assert warnings == ()
