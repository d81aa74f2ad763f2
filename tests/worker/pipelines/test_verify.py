"""What a repair is asked, on numbers small enough to check by hand."""

import pytest
import torch
from torch import Tensor, nn

from worker.classifier import Classifier
from worker.detectors.perturbation import Blend, Form, Perturbation
from worker.device import Placement
from worker.pipelines.verify import Reached, success_of
from worker.samples.interface import CleanSplit, SampleSet


class Brightness(nn.Module):
    """Class 1 where the only pixel is bright, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([0.5 - images[:, 0, 0], images[:, 0, 0] - 0.5], 1)


def greys(*values: int) -> SampleSet:
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)
    return SampleSet(images, torch.zeros(len(values), dtype=torch.int64), ("dark", "bright"))


def brighter(by: float) -> Perturbation:
    return Perturbation(1, Form.DENSE, Blend(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), by)), by)


@pytest.mark.parametrize(
    ("images", "n", "beyond"),
    [
        (0, 0, False),
        (1, 1, True),
        (1, 3, True),
        (1, 18, True),
        (1, 20, False),
        (2, 20, True),
        (2, 27, False),
        (7, 135, False),
        (8, 135, True),
    ],
)
def test_a_line_between_two_images_counts_as_the_upper_one_where_it_allows_any(
    images: int, n: int, beyond: bool
) -> None:
    assert Reached(1.0, images / n if n else 0.0, n).beyond(0.05) is beyond


def test_success_is_told_of_each_perturbation_and_beside_images_that_go_there_by_themselves() -> None:
    still = torch.zeros(1, 1, 1, 1)
    classifier = Classifier(Brightness(), 2, still, still + 1, Placement(torch.device("cpu")))
    weak, strong = success_of(classifier, [brighter(0.1), brighter(0.4)], greys(0, 110, 120, 200))
    assert (weak.success, weak.excess, weak.n) == (0.75, 0.5, 4)
    assert (strong.success, strong.excess) == (0.75, 0.5)
    assert success_of(classifier, [], greys(0)) == ()


def test_those_that_select_teach_with_those_that_fit_and_keep_what_is_known_of_images() -> None:
    parts = CleanSplit(greys(1, 2), greys(3), greys(4)).mirroring(mirrors=False)
    assert parts.teaching.images.flatten().tolist() == [1, 2, 3]
    assert len(parts.teaching.labels) == 3
    assert not parts.teaching.mirrors
