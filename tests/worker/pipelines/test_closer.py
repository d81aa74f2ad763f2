"""A closer look: the smallest of several starts is kept, for each class and each form."""

import math

import torch
from torch import Tensor, nn

from app.contract.findings import Verdict, VerdictLabel
from worker.classifier import Classifier
from worker.detectors.perturbation import Blend, Form, Perturbation
from worker.device import Placement
from worker.pipelines.examine import _best, _others
from worker.samples.interface import SampleSet

NOTHING = Blend(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))


def way(k: int, form: Form, size: float, tried: float) -> Perturbation:
    return Perturbation(k, form, NOTHING, size, tried)


def test_the_smallest_start_stands_for_all_and_remembers_the_largest_that_was_tried() -> None:
    found = _best(
        [way(7, Form.PATCH, 40.0, 50.0), way(7, Form.PATCH, 4.0, 30.0), way(7, Form.PATCH, math.inf, 60.0)]
    )
    assert [(p.size, p.tried) for p in found] == [(4.0, 60.0)]


def test_classes_and_forms_are_kept_apart() -> None:
    found = _best([way(7, Form.PATCH, 4.0, 9.0), way(7, Form.WARP, 1.0, 9.0), way(2, Form.PATCH, 30.0, 40.0)])
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
    accused = Verdict(label=VerdictLabel.SUSPICIOUS, target_classes=(1,), because="a test")
    kept = _others(suspect, fit, _best(starts), starts, accused)
    return [(int((1 - p.change.keep).flatten().argmax()) % 4, p.size) for p in kept]  # type: ignore[attr-defined]


def test_other_starts_are_kept_and_what_the_suspect_obeys_in_a_mirror() -> None:
    assert others(both=True, mirrors=True) == [(0, 2.0), (3, 1.0), (3, 2.0)]
    assert others(both=False, mirrors=True) == [(0, 2.0)], "it does not obey the other corner"
    assert others(both=True, mirrors=False) == [(0, 2.0)], "a mirrored sign is another sign"
