"""An attempt that goes on from a checkpoint ends as one that was never interrupted."""

from pathlib import Path

import pytest
import torch

from app.contract.options import SanitizeOptions
from tests.worker.pipelines.test_pipeline import EXAMPLES, SHORT, SUSPECT, facts
from worker.classifier import Classifier
from worker.device import Placement
from worker.pipelines import checkpoints
from worker.pipelines.examine import Fallen
from worker.pipelines.inputs import Request
from worker.pipelines.sanitize import Sanitized, sanitize

OPTIONS = SanitizeOptions.model_validate(SHORT | {"unlearn": {**SHORT["unlearn"], "dropout": True}})


class InFile:
    """Checkpoints in one file, and what was done with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: list[Fallen] = []
        self.restored: list[Fallen | None] = []

    def restore(self, suspect: Classifier, options: SanitizeOptions) -> Fallen | None:
        self.restored.append(checkpoints.read(self.path, suspect, options))
        return self.restored[-1]

    def keep(self, fallen: Fallen, options: SanitizeOptions) -> None:
        self.kept.append(fallen)
        checkpoints.write(self.path, fallen, options)


def run(kept: InFile, options: SanitizeOptions = OPTIONS) -> Sanitized:
    place = Placement(torch.device("cpu"), memory_format=torch.channels_last)
    return sanitize(Request(SUSPECT, EXAMPLES / "clean-500.zip", options, place), checkpoints=kept)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[InFile, Sanitized]:
    kept = InFile(tmp_path_factory.mktemp("first") / "checkpoint")
    return kept, run(kept)


def test_the_second_attempt_unlearns_nothing_and_gives_the_same_result(
    first: tuple[InFile, Sanitized],
) -> None:
    kept, whole = first
    again = InFile(kept.path)
    resumed = run(again)
    assert again.kept == []
    (restored,) = again.restored
    assert restored is not None
    (before,) = kept.kept
    assert (restored.before, restored.shift) == (before.before, before.shift)
    for ours, theirs in zip(restored.runs, before.runs, strict=True):
        assert (ours.epochs, ours.reached) == (theirs.epochs, theirs.reached)
        assert ours.module.training == theirs.module.training
        for name, tensor in theirs.module.state_dict().items():
            assert tensor.equal(ours.module.state_dict()[name])
    assert facts(resumed) == facts(whole)
    assert resumed.edits == whole.edits
    assert whole.report.verdict.label in ("suspicious", "backdoored")  # so every later stage was walked


@pytest.mark.parametrize("damage", ["other options", "truncated", "no file", "pickle", "other weights"])
def test_what_cannot_be_used_is_not_there(
    first: tuple[InFile, Sanitized], tmp_path: Path, damage: str
) -> None:
    kept, whole = first
    path = tmp_path / "checkpoint"
    options = OPTIONS.model_copy(update={"seed": 1}) if damage == "other options" else OPTIONS
    data = kept.path.read_bytes()
    if damage == "pickle":
        torch.save({"a": 1}, path)
    elif damage != "no file":
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else data)
    module = torch.nn.Linear(2, 2) if damage == "other weights" else whole.model.module
    pixels = torch.zeros(1, 3, 1, 1)
    suspect = Classifier(module, 10, pixels, pixels, Placement(torch.device("cpu")))
    state = torch.get_rng_state()
    assert checkpoints.read(path, suspect, options) is None
    assert torch.get_rng_state().equal(state)
