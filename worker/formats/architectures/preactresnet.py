"""Pre-activation ResNet for 32×32 images, in the key layout of BackdoorBench and of kuangliu/pytorch-cifar.

He et al., Identity Mappings in Deep Residual Networks, ECCV 2016. Two habits of this layout are not in the paper: the
projecting shortcut has no BatchNorm, and nothing normalises or rectifies after the last block.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from worker.formats.architectures.interface import Shapes, first_axes


class PreActBlock(nn.Module):
    """BatchNorm and ReLU stand before each of the two convolutions."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        # A projection sees the activated input, the identity the raw one.
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + shortcut  # type: ignore[no-any-return]


class PreActResNet(nn.Module):
    """Four stages of blocks at widths `width`, 2·`width`, 4·`width`, 8·`width`."""

    def __init__(self, depths: tuple[int, int, int, int], num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.layer1 = _stage(width, width, depths[0], 1)
        self.layer2 = _stage(width, width * 2, depths[1], 2)
        self.layer3 = _stage(width * 2, width * 4, depths[2], 2)
        self.layer4 = _stage(width * 4, width * 8, depths[3], 2)
        self.linear = nn.Linear(width * 8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        out = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return self.linear(out)  # type: ignore[no-any-return]


def _stage(in_planes: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    rest = [PreActBlock(planes, planes, 1) for _ in range(depth - 1)]
    return nn.Sequential(PreActBlock(in_planes, planes, stride), *rest)


def infer(shapes: Shapes) -> dict[str, int] | None:
    """Width and number of classes."""
    return first_axes(shapes, width="conv1.weight", num_classes="linear.weight")
