"""The cheaper classifier says what the one that it was made of says, and leaves that one alone."""

import pytest
import torch
from torch import Tensor, nn

from worker.classifier import Classifier
from worker.device import Placement
from worker.formats.architectures import REGISTRY
from worker.frozen import frozen

IMAGES = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
SMALL = {"width": 8, "depth": 10}
FOLDED = (
    "resnet18_cifar",
    "resnet50_cifar",
    "resnet20_cifar",
    "resnet20_projecting_cifar",
    "vgg16_bn_cifar",
    "smallvgg_cifar",
    "mobilenetv2_cifar",
)


def classifier(module: nn.Module) -> Classifier:
    """With statistics of BatchNorm that are not those of a fresh one."""
    draw = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_(generator=draw)
            part.running_var.uniform_(0.5, 2.0, generator=draw)  # type: ignore[union-attr]
    still = torch.zeros(1, 3, 1, 1)
    return Classifier(module.eval(), 10, still, still + 1, Placement(torch.device("cpu")))


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_architecture_answers_as_before(name: str) -> None:
    torch.manual_seed(0)
    architecture = REGISTRY[name]
    told = {
        argument: SMALL.get(argument, bound.default) for argument, bound in architecture.arguments.items()
    }
    suspect = classifier(architecture.build(num_classes=10, **told))
    before = norms(suspect.module)
    cheap = frozen(suspect, IMAGES[:1])
    torch.testing.assert_close(cheap.logits(IMAGES), suspect.logits(IMAGES), rtol=1e-3, atol=1e-3)
    assert norms(suspect.module) == before
    assert norms(cheap.module) == (0 if name in FOLDED else norms(cheap.module))
    assert not any(parameter.requires_grad for parameter in cheap.module.parameters())
    assert all(parameter.requires_grad for parameter in suspect.module.parameters())


class Winding(nn.Module):
    """What becomes of an image depends on the image, so there is no one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 10, 32), nn.BatchNorm2d(10)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.norm(self.convolution(images))
        return found.flatten(1) if found.sum() > 0 else -found.flatten(1)


class Shared(nn.Module):
    """One convolution that two norms follow."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.first, self.second = (
            nn.Conv2d(3, 10, 32),
            nn.BatchNorm2d(10),
            nn.BatchNorm2d(10),
        )

    def forward(self, images: Tensor) -> Tensor:
        found = self.convolution(images)
        return (self.first(found) - 2 * self.second(found)).flatten(1)


@pytest.mark.parametrize("module", [Winding, Shared])
def test_what_cannot_be_folded_stays(module: type[nn.Module]) -> None:
    suspect = classifier(module())
    cheap = frozen(suspect, IMAGES[:1])
    assert norms(cheap.module) == norms(suspect.module)
    assert torch.equal(cheap.logits(IMAGES), suspect.logits(IMAGES))
    assert not any(parameter.requires_grad for parameter in cheap.module.parameters())
