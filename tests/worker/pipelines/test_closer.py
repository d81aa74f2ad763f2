"""A closer look: the smallest of several starts is kept, for each class and each form."""

import math

import torch
from torch import Tensor, nn

from app.contract.findings import Verdict, VerdictLabel
from app.contract.options import EvidenceOptions, SanitizeOptions
from app.contract.report import Epoch
from worker.classifier import Classifier
from worker.detectors.perturbation import ELSEWHERE, Blend, Form, Perturbation
from worker.device import Placement
from worker.pipelines.examine import Examined, _others, look_closely, references
from worker.pipelines.fall import Fallen
from worker.pipelines.hear import best_of
from worker.samples.interface import SampleSet

BEFORE = Epoch(number=0, lr=0, loss=0, accuracy=0.9, held_accuracy=0.9, label_shares=(0.5, 0.5))
NOTHING = Blend(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))


def way(k: int, form: Form, size: float, tried: float) -> Perturbation:
    return Perturbation(k, form, NOTHING, size, tried)


def test_the_smallest_start_stands_for_all_and_remembers_the_largest_that_was_tried() -> None:
    found = best_of(
        [way(7, Form.PATCH, 40.0, 50.0), way(7, Form.PATCH, 4.0, 30.0), way(7, Form.PATCH, math.inf, 60.0)]
    )
    assert [(p.size, p.tried) for p in found] == [(4.0, 60.0)]


def test_classes_and_forms_are_kept_apart() -> None:
    found = best_of(
        [way(7, Form.PATCH, 4.0, 9.0), way(7, Form.WARP, 1.0, 9.0), way(2, Form.PATCH, 30.0, 40.0)]
    )
    assert {(p.target_class, p.form): p.size for p in found} == {
        (7, Form.PATCH): 4.0,
        (7, Form.WARP): 1.0,
        (2, Form.PATCH): 30.0,
    }


class Corners(nn.Module):
    """Class 1 where the lower left corner is white, or where either of the two is."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.columns = (0, -1) if both else (0,)

    def forward(self, images: Tensor) -> Tensor:
        white = images[:, 0, -1, self.columns].amax(1)
        return torch.stack([torch.zeros_like(white), white - 0.5], 1)


def corner(column: int, size: float) -> Perturbation:
    keep, add = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    keep[..., -1, column], add[..., -1, column] = 0, 1
    return Perturbation(1, Form.PATCH, Blend(keep, add), size)


def others(*, both: bool, mirrors: bool) -> list[tuple[int, float]]:
    """Columns and sizes of what is kept beside the smallest, of two starts that found the left corner."""
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(Corners(both=both), 2, still, still + 1, Placement(torch.device("cpu")))
    fit = SampleSet(torch.zeros(6, 1, 4, 4).byte(), torch.zeros(6).long(), ("a", "b"), mirrors=mirrors)
    starts = [corner(0, 1.0), corner(0, 2.0), corner(0, math.inf)]
    kept = _others(suspect, fit, best_of(starts), starts, (1,))
    return [(int((1 - p.change.keep).flatten().argmax()) % 4, p.size) for p in kept]  # type: ignore[attr-defined]


def test_other_starts_are_kept_and_what_the_suspect_obeys_in_a_mirror() -> None:
    assert others(both=True, mirrors=True) == [(0, 2.0), (3, 1.0), (3, 2.0)]
    assert others(both=False, mirrors=True) == [(0, 2.0)], "it does not obey the other corner"
    assert others(both=True, mirrors=False) == [(0, 2.0)], "a mirrored sign is another sign"


def test_a_repair_is_told_of_a_careful_search_of_the_classes_that_were_searched_and_of_what_is_recalled() -> (
    None
):
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(Corners(both=True), 2, still, still + 1, Placement(torch.device("cpu")))
    images = torch.randint(0, 99, (8, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    fit = SampleSet(images, torch.zeros(8).long(), ("a", "b"), mirrors=False)
    fallen = Fallen(BEFORE, (), None, None, follows_batches=False)
    verdict = Verdict(label=VerdictLabel.SUSPICIOUS, target_classes=(1,), because="a test")
    recalled = way(1, Form.RECALLED, 3.0, 3.0)
    quick = Examined(fallen, (way(1, Form.PATCH, 9.0, 9.0), recalled), {1: 1.0}, verdict)
    options = SanitizeOptions.model_validate({"perturbation": {"steps": 40, "batch_size": 8}})
    closely = look_closely(suspect, fit, quick, options)
    assert {(p.target_class, p.form) for p in closely.perturbations} == {(1, form) for form in Form}
    assert recalled in closely.perturbations
    patch = next(p for p in closely.perturbations if p.form is Form.PATCH)
    assert patch.size < 9.0, "and not what the first look had found"
    assert closely.verdict is verdict
    assert len(closely.others) >= 3, "of other starts"


def test_what_is_recalled_is_not_needed_where_a_careful_search_finds_what_a_hurried_one_missed() -> None:
    """Of the example the first look misses the patch on some machines, and a veil over all of the image is recalled."""
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(Corners(both=True), 2, still, still + 1, Placement(torch.device("cpu")))
    images = torch.randint(0, 99, (16, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    images[8:, :, -1] = 255  # two corners have to be covered here, one is enough to go the other way
    fit = SampleSet(images, torch.tensor(8 * [0] + 8 * [1]), ("a", "b"), mirrors=False)
    fallen = Fallen(BEFORE, (), None, None, follows_batches=False)
    verdict = Verdict(label=VerdictLabel.SUSPICIOUS, target_classes=(1,), because="a test")
    recalled = way(1, Form.RECALLED, 3.0, 3.0)
    missed = (way(1, Form.PATCH, 9.0, 9.0), way(0, Form.PATCH, 9.0, 9.0), recalled)
    quick = Examined(fallen, missed, {0: 1.0, 1: 1.0}, verdict)

    def closely(line: float) -> Examined:
        told = {"perturbation": {"steps": 60, "batch_size": 16}, "evidence": {"relative_size": line}}
        return look_closely(suspect, fit, quick, SanitizeOptions.model_validate(told))

    found = closely(0.9)
    assert found.sizes[1] < 0.9
    assert recalled not in found.perturbations
    assert {p.form for p in found.accused(EvidenceOptions(relative_size=0.9))} >= {Form.PATCH}
    assert recalled in closely(0.01).perturbations


def test_beside_the_accused_the_classes_around_the_median_of_the_others_are_looked_at() -> None:
    """Each form has its own; there are enough of them that the accused cannot move their median."""
    fallen = Fallen(BEFORE, (), None, None, follows_batches=False)
    found = [way(k, Form.PATCH, 10.0 + k, 99.0) for k in range(10)]
    found += [way(k, Form.WARP, math.inf, 30.0 - k) for k in range(10)]
    found.append(way(ELSEWHERE, Form.PATCH, 14.5, 99.0))

    def beside(*targets: int, all_to_all: bool = False) -> dict[Form, tuple[int, ...]]:
        accused = Verdict(
            label=VerdictLabel.SUSPICIOUS, target_classes=targets, all_to_all=all_to_all, because="a test"
        )
        return references(Examined(fallen, tuple(found), {}, accused))

    assert beside(0) == {Form.PATCH: (4, 5, 6), Form.DENSE: (), Form.WARP: (6, 5, 4)}
    assert beside(0, 9)[Form.PATCH] == (2, 3, 4, 5, 6)
    assert beside(0, 1, 2, all_to_all=True)[Form.PATCH] == (3, 4, 5)
