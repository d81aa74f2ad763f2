"""Every architecture by name. Adding one: a file, a line here, a row in the tests."""

from functools import partial

from worker.formats.architectures import (
    mobilenet,
    preactresnet,
    resnet,
    smallvgg,
    thinresnet,
    vgg,
    vision,
    wideresnet,
)
from worker.formats.architectures.interface import Architecture, Argument

PLANES = {"width": Argument(64, range(1, 1025))}
THIN = {"width": Argument(16, range(1, 1025))}
THIN_DEPTHS = (20, 32, 44, 56, 110)
WIDE = {"depth": Argument(28, range(10, 1001, wideresnet.PER_BLOCK)), "width": Argument(10, range(1, 65))}

REGISTRY: dict[str, Architecture] = {
    "resnet18_cifar": Architecture(
        partial(resnet.ResNet, resnet.BasicBlock, (2, 2, 2, 2)), resnet.infer, arguments=PLANES
    ),
    "resnet34_cifar": Architecture(
        partial(resnet.ResNet, resnet.BasicBlock, (3, 4, 6, 3)), resnet.infer, arguments=PLANES
    ),
    "resnet50_cifar": Architecture(
        partial(resnet.ResNet, resnet.Bottleneck, (3, 4, 6, 3)), resnet.infer, arguments=PLANES
    ),
    **{
        f"resnet{depth}_cifar": Architecture(
            partial(thinresnet.ThinResNet, (depth - 2) // 6), resnet.infer, arguments=THIN
        )
        for depth in THIN_DEPTHS
    },
    **{
        f"resnet{depth}_projecting_cifar": Architecture(
            partial(thinresnet.ProjectingResNet, (depth - 2) // 6),
            thinresnet.infer_projecting,
            arguments=THIN,
        )
        for depth in THIN_DEPTHS
    },
    "preactresnet18_cifar": Architecture(
        partial(preactresnet.PreActResNet, (2, 2, 2, 2)), preactresnet.infer, arguments=PLANES
    ),
    "vgg16_cifar": Architecture(partial(vgg.VGG, (2, 2, 3, 3, 3), norm=False), vgg.infer, arguments=PLANES),
    "vgg16_bn_cifar": Architecture(partial(vgg.VGG, (2, 2, 3, 3, 3)), vgg.infer, arguments=PLANES),
    "vgg19_bn_cifar": Architecture(partial(vgg.VGG, (2, 2, 4, 4, 4)), vgg.infer, arguments=PLANES),
    "smallvgg_cifar": Architecture(
        smallvgg.SmallVGG, smallvgg.infer, arguments={"width": Argument(32, range(1, 1025))}
    ),
    "mobilenetv2_cifar": Architecture(mobilenet.MobileNetV2, mobilenet.infer),
    "wideresnet_cifar": Architecture(wideresnet.WideResNet, wideresnet.infer, arguments=WIDE),
}


def find(name: str) -> Architecture | None:
    """The architecture of that name, ours or of an installed library."""
    if name in REGISTRY:
        return REGISTRY[name]
    return vision.find(name) if "/" in name else None
