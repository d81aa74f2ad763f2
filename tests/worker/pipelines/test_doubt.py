"""Where the witnesses point and no perturbation of the first look is small, a patch is sought from coarse to fine."""

from dataclasses import replace

import pytest

from app.contract.findings import VerdictLabel
from app.contract.options import SanitizeOptions
from app.contract.report import Epoch
from tests.conftest import BACKDOORED, EXAMPLES
from tests.worker.pipelines.test_examine import NOTHING
from worker.detectors.perturbation import Form, Perturbation
from worker.detectors.target_label import strongest
from worker.detectors.verdict import Heard, judge, most_suspicious
from worker.device import place
from worker.pipelines import doubt
from worker.pipelines.doubt import accused_after, examine_twice, second_look
from worker.pipelines.examine import Examined, examine, upheld
from worker.pipelines.fall import Fallen
from worker.pipelines.hear import Hearing
from worker.pipelines.inputs import Loaded, Request, read_inputs

TARGET, ANOTHER = 7, 3
OPTIONS = SanitizeOptions.model_validate({"perturbation": {"steps": 60, "patience": 60, "batch_size": 16}})
BEFORE = Epoch(number=0, lr=0, loss=0, accuracy=0.9, held_accuracy=0.9, label_shares=(0.1,) * 10)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return read_inputs(Request(BACKDOORED, EXAMPLES / "clean-500.zip", OPTIONS, place("cpu")))


def pointing_at(target: int, movement: float = 6.0) -> Hearing:
    """Unlearning moves the row of one class, and every perturbation is of the usual size."""
    found = tuple(
        Perturbation(k, form, NOTHING, 10.0 + k / 10, tried=20.0)
        for form in (Form.PATCH, Form.DENSE, Form.WARP)
        for k in range(10)
    )
    moved = strongest([movement if k == target else 1.0 for k in range(10)])
    heard = Heard(strongest([0.0] * 10), moved, dict.fromkeys(range(10), 1.0), (), 10, 250)
    return Hearing(Fallen(BEFORE, (), None, None, follows_batches=True), found, None, heard)


def looked_again(loaded: Loaded, hearing: Hearing) -> tuple[Examined, Examined]:
    return examine(hearing, OPTIONS.evidence), examine_twice(loaded, hearing, OPTIONS)


def test_a_patch_that_the_first_look_missed_makes_a_model_suspicious(loaded: Loaded) -> None:
    """BadNets on the example; what unlearning says alone accuses nobody."""
    hearing = pointing_at(TARGET)
    first, after = looked_again(loaded, hearing)
    assert first.verdict.label is VerdictLabel.INCONCLUSIVE
    assert (after.verdict.label, after.aims) == (VerdictLabel.SUSPICIOUS, (TARGET,))
    assert after.sizes[TARGET] < OPTIONS.evidence.relative_size
    assert after.verdict.false_alarms is None, "the null knows nothing of this look"
    assert f"a patch of {after.sizes[TARGET]:.2f} of the usual size" in after.verdict.because
    assert upheld(hearing, after, OPTIONS.evidence) is after


def test_where_no_small_patch_leads_nothing_changes(loaded: Loaded) -> None:
    first, after = looked_again(loaded, pointing_at(ANOTHER))
    assert after == first


def test_who_is_accused_or_cleared_already_is_not_looked_at_again(loaded: Loaded) -> None:
    for label in (VerdictLabel.CLEAN, VerdictLabel.BACKDOORED, VerdictLabel.SUSPICIOUS):
        hearing = pointing_at(TARGET)
        first = examine(hearing, OPTIONS.evidence)
        first = replace(first, verdict=first.verdict.model_copy(update={"label": label}))
        found = second_look(loaded.suspect, loaded.parts.fit, hearing, first, OPTIONS)
        assert found is None
        assert accused_after(first, found, OPTIONS.evidence) is first


def test_the_most_suspicious_class_is_that_of_the_uncut_words() -> None:
    heard = pointing_at(TARGET).heard
    assert judge(heard, OPTIONS.evidence).target_classes == (), "cut, they accuse nobody"
    assert most_suspicious(heard) == TARGET
    assert most_suspicious(pointing_at(TARGET, movement=1.0).heard) is None
    assert most_suspicious(replace(heard, num_classes=3)) is None, "nothing can be read there"
    assert most_suspicious(replace(heard, absent=(TARGET,))) is None, "it has no images to be fitted"


def remembering(share: float, target: int = TARGET) -> Hearing:
    """What BatchNorm remembers leads so many images into one class; nobody else says anything."""
    quiet = pointing_at(target, movement=1.0)
    led = strongest([share if k == target else 0.02 for k in range(10)])
    added = Perturbation(target, Form.RECALLED, NOTHING, 1.0)
    return replace(quiet, recalled=added, heard=replace(quiet.heard, recalled=led))


def test_what_batchnorm_remembers_by_the_luck_of_a_draw_accuses_nobody(loaded: Loaded) -> None:
    """The example remembers its own target with any draw, and nothing of another class."""
    lucky = remembering(0.9, ANOTHER)
    first, after = looked_again(loaded, lucky)
    assert (first.verdict.label, first.aims) == (VerdictLabel.BACKDOORED, (ANOTHER,))
    assert (after.verdict.label, after.aims) == (VerdictLabel.INCONCLUSIVE, ())
    assert "led into one class 90% of the images, and " in after.verdict.because


def test_what_batchnorm_remembers_with_another_draw_as_well_stands(loaded: Loaded) -> None:
    first, after = looked_again(loaded, remembering(0.9))
    assert first.aims == after.aims == (TARGET,)
    assert after.verdict.label is VerdictLabel.BACKDOORED
    assert any(p.form is Form.RECALLED for p in after.perturbations), "a repair rests on it"


def test_where_others_accuse_as_well_batchnorm_is_not_asked_again(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubt, "recall", lambda *_: pytest.fail("it was asked"))
    hearing = remembering(0.9)
    small = replace(hearing, heard=replace(hearing.heard, sizes={**hearing.heard.sizes, TARGET: 0.1}))
    first, after = looked_again(loaded, small)
    assert after == first
    assert first.verdict.label is VerdictLabel.BACKDOORED
