"""VGG for 32×32 images, in the key layout of kuangliu/pytorch-cifar and of the official RNP code.

Those have BatchNorm behind every convolution; without it, where it was folded into the convolutions, the layers count
as in torchvision's plain VGG.

Simonyan & Zisserman, Very Deep Convolutional Networks, ICLR 2015, with one linear layer behind the convolutions.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from worker.formats.architectures.interface import Shapes, first_axes

STAGES = (1, 2, 4, 8, 8)  # in units of the width; each stage ends in a pooling that halves the image


class VGG(nn.Module):
    """Five stages of `depths` convolutions each, all under `features`."""

    def __init__(
        self, depths: tuple[int, int, int, int, int], num_classes: int, width: int, *, norm: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_planes = 3
        for factor, depth in zip(STAGES, depths, strict=True):
            planes = factor * width
            for _ in range(depth):
                layers.append(nn.Conv2d(in_planes, planes, 3, padding=1))
                layers += [nn.BatchNorm2d(planes), nn.ReLU()] if norm else [nn.ReLU()]
                in_planes = planes
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_planes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        return self.classifier(out)  # type: ignore[no-any-return]


def infer(shapes: Shapes) -> dict[str, int] | None:
    """Width and number of classes."""
    return first_axes(shapes, width="features.0.weight", num_classes="classifier.weight")
