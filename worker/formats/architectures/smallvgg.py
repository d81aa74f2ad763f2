"""A small VGG for 32×32 images, in the key layout of the I-BAU code (Zeng et al., ICLR 2022) and its published nets.

Three stages of two convolutions, each with BatchNorm and ELU (Clevert et al., ICLR 2016), and one linear layer on
what is left of the plane. Dropout behind each pooling has the rates of that code: no file says them, and it sleeps in
eval mode.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from worker.formats.architectures.interface import Shapes, first_axes

STAGES = (1, 2, 4)  # in units of the width; each stage ends in a pooling that halves the image
CONVOLUTIONS = 2  # of a stage
DROPOUT = (0.3, 0.4, 0.4)
PLANE = 32 // 2 ** len(STAGES)  # pixels a side that are left


class SmallVGG(nn.Module):
    """All convolutions under `features`."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_planes = 3
        for factor, rate in zip(STAGES, DROPOUT, strict=True):
            planes = factor * width
            for _ in range(CONVOLUTIONS):
                layers += [nn.Conv2d(in_planes, planes, 3, padding=1), nn.BatchNorm2d(planes), nn.ELU()]
                in_planes = planes
            layers += [nn.MaxPool2d(2), nn.Dropout(rate)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_planes * PLANE**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        plane = F.adaptive_avg_pool2d(self.features(x), PLANE)  # changes nothing on 32×32 images
        return self.classifier(plane.flatten(1))  # type: ignore[no-any-return]


def infer(shapes: Shapes) -> dict[str, int] | None:
    """Width and number of classes."""
    return first_axes(shapes, width="features.0.weight", num_classes="classifier.weight")
