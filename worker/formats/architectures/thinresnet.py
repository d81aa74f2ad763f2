"""The thin ResNets of 6n + 2 layers for 32×32 images, in two key layouts.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, §4.2. Their own shortcuts (option A), laid out as in
akamaster/pytorch_resnet_cifar10, hold no weights: every other pixel is taken, and the new planes are zeros on both
sides. Option B, laid out as in chenyaofo/pytorch-cifar-models, projects onto the new planes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from worker.formats.architectures.interface import Shapes, first_axes
from worker.formats.architectures.resnet import BasicBlock


class Subsample(nn.Module):
    """Every `stride`-th pixel, and `added` planes of zeros on either side."""

    def __init__(self, stride: int, added: int) -> None:
        super().__init__()
        self.stride, self.added = stride, added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))


class ThinBlock(BasicBlock):
    """The usual block beside a shortcut without weights."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__(in_planes, planes, stride)
        self.shortcut = nn.Sequential(Subsample(stride, (planes - in_planes) // 2))


class ProjectingBlock(BasicBlock):
    """The usual block, whose shortcut is called as torchvision calls it."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__(in_planes, planes, stride)
        self.downsample = self.shortcut
        del self.shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class ThinResNet(nn.Module):
    """Three stages of `blocks` blocks each, at widths `width`, 2·`width`, 4·`width`."""

    block: type[BasicBlock] = ThinBlock
    head = "linear"

    def __init__(self, blocks: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(blocks, width, width, 1)
        self.layer2 = self._stage(blocks, width, width * 2, 2)
        self.layer3 = self._stage(blocks, width * 2, width * 4, 2)
        self.add_module(self.head, nn.Linear(width * 4, num_classes))

    def _stage(self, blocks: int, in_planes: int, planes: int, stride: int) -> nn.Sequential:
        rest = [self.block(planes, planes, 1) for _ in range(blocks - 1)]
        return nn.Sequential(self.block(in_planes, planes, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.get_submodule(self.head)(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


class ProjectingResNet(ThinResNet):
    """The same with projections, and another name for the last layer."""

    block = ProjectingBlock
    head = "fc"


def infer_projecting(shapes: Shapes) -> dict[str, int] | None:
    """Width and number of classes."""
    return first_axes(shapes, width="conv1.weight", num_classes="fc.weight")
