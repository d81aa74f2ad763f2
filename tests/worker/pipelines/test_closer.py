"""A closer look: the smallest of several starts is kept, for each class and each form."""

import math

import torch

from worker.detectors.perturbation import Blend, Form, Perturbation
from worker.pipelines.examine import _best

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
