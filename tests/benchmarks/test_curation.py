"""What the study of curation counts."""

import pytest
import torch

from benchmarks.curation import facts


def test_a_choice_is_told_by_its_classes_its_rarest_one_and_how_far_its_accuracy_is_off() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    right = torch.tensor([True, True, True, False, True, False])
    assert facts(torch.tensor([0, 1, 3, 4]), labels, right) == (2, 0, pytest.approx(100 * (3 / 4 - 4 / 6)))
    assert facts(torch.arange(6), labels, right) == (3, 0.5, 0)
