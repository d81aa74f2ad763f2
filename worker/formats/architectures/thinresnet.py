"""The thin ResNets of 6n + 2 layers for 32×32 images, in the key layout of akamaster/pytorch_resnet_cifar10.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, §4.2. Their shortcuts (option A) hold no weights:
every other pixel is taken, and the new planes are zeros on both sides.
"""

from torch import Tensor, nn
from torch.nn import functional as F

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


def _stage(blocks: int, in_planes: int, planes: int, stride: int) -> nn.Sequential:
    rest = [ThinBlock(planes, planes, 1) for _ in range(blocks - 1)]
    return nn.Sequential(ThinBlock(in_planes, planes, stride), *rest)


class ThinResNet(nn.Module):
    """Three stages of `blocks` blocks each, at widths `width`, 2·`width`, 4·`width`."""

    def __init__(self, blocks: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1)
        self.layer2 = _stage(blocks, width, width * 2, 2)
        self.layer3 = _stage(blocks, width * 2, width * 4, 2)
        self.linear = nn.Linear(width * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]
