"""Wide ResNet for 32×32 images, in the key layout of xternalz/WideResNet-pytorch.

Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016. Dropout is left out: it sleeps in eval
mode, and no file says its rate.
"""

from itertools import count

from torch import Tensor, nn
from torch.nn import functional as F

from worker.formats.architectures.interface import Shapes, first_axes

STEM = 16
PER_BLOCK, OUTSIDE = (
    6,
    4,
)  # convolutions: two per block in each of three stages; stem, and one shortcut a stage


class WideBlock(nn.Module):
    """BatchNorm and ReLU stand before each of the two convolutions."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        # At width 1 the first stage neither widens nor strides, so it has no projection.
        if in_planes != planes:
            self.convShortcut = nn.Conv2d(in_planes, planes, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        # A projection sees the activated input, the identity the raw one.
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + shortcut  # type: ignore[no-any-return]


class WideStage(nn.Module):
    """Blocks of one width, under the name `layer`."""

    def __init__(self, in_planes: int, planes: int, depth: int, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(planes, planes, 1) for _ in range(depth - 1)]
        self.layer = nn.Sequential(WideBlock(in_planes, planes, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """WRN-`depth`-`width`: three stages at 16, 32 and 64 times `width` planes."""

    def __init__(self, num_classes: int, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - OUTSIDE) // PER_BLOCK
        planes = STEM * width
        self.conv1 = nn.Conv2d(3, STEM, 3, 1, 1, bias=False)
        self.block1 = WideStage(STEM, planes, blocks, 1)
        self.block2 = WideStage(planes, planes * 2, blocks, 2)
        self.block3 = WideStage(planes * 2, planes * 4, blocks, 2)
        self.bn1 = nn.BatchNorm2d(planes * 4)
        self.fc = nn.Linear(planes * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        out = F.adaptive_avg_pool2d(F.relu(self.bn1(out)), 1).flatten(1)
        return self.fc(out)  # type: ignore[no-any-return]


def infer(shapes: Shapes) -> dict[str, int] | None:
    """Depth, width and number of classes."""
    found = first_axes(shapes, width="block1.layer.0.conv1.weight", num_classes="fc.weight")
    if found is None or "width" not in found:
        return found
    blocks = next(n for n in count() if f"block1.layer.{n}.conv1.weight" not in shapes)
    return found | {"depth": PER_BLOCK * blocks + OUTSIDE, "width": found["width"] // STEM}
