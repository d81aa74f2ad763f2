"""Each architecture has the keys, the size and the input that its public layout has."""

import pytest
import torch

from app.errors import OptionsError
from worker.formats import architectures
from worker.formats.architectures import spec, vision
from worker.formats.architectures.preactresnet import PreActBlock
from worker.formats.architectures.wideresnet import WideBlock

# Parameters for 10 classes, counted on the modules that the public repositories build: kuangliu/pytorch-cifar at
# 49b7aa9, SCLBD/BackdoorBench (models/preact_resnet.py), xternalz/WideResNet-pytorch at 1171f93,
# akamaster/pytorch_resnet_cifar10 at d5489e8; those of chenyaofo/pytorch-cifar-models are the same and the projections,
# 2,752 numbers for any depth. The official RNP
# repository bboylyg/RNP at eeae192 has the same counts for its ResNet-18 and -34, VGG-16 and -19 and MobileNetV2.
PARAMETERS = {
    "resnet18_cifar": 11_173_962,
    "resnet34_cifar": 21_282_122,
    "resnet50_cifar": 23_520_842,
    "resnet20_cifar": 269_722,
    "resnet32_cifar": 464_154,
    "resnet44_cifar": 658_586,
    "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962,
    "resnet20_projecting_cifar": 272_474,
    "resnet32_projecting_cifar": 466_906,
    "resnet44_projecting_cifar": 661_338,
    "resnet56_projecting_cifar": 855_770,
    "resnet110_projecting_cifar": 1_730_714,
    "preactresnet18_cifar": 11_171_146,
    "vgg16_cifar": 14_719_818,  # the next without its 4,224 scales and 4,224 shifts
    "vgg16_bn_cifar": 14_728_266,
    "vgg19_bn_cifar": 20_040_522,
    "smallvgg_cifar": 308_394,
    "mobilenetv2_cifar": 2_296_922,
    "wideresnet_cifar": 36_479_194,
    "wideresnet_cifar:depth=16,width=1": 175_066,
}

# key -> shape, read in the same repositories; () is a counter
LANDMARKS = {
    "resnet18_cifar": {
        "conv1.weight": (64, 3, 3, 3),
        "layer1.0.bn2.running_var": (64,),
        "layer2.0.shortcut.0.weight": (128, 64, 1, 1),
        "layer2.0.shortcut.1.num_batches_tracked": (),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "linear.weight": (10, 512),
    },
    "resnet34_cifar": {"layer3.5.conv2.weight": (256, 256, 3, 3), "layer4.2.bn2.bias": (512,)},
    "resnet50_cifar": {
        "layer1.0.shortcut.0.weight": (256, 64, 1, 1),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "linear.weight": (10, 2048),
    },
    "resnet20_cifar": {"layer1.2.bn2.running_var": (16,), "layer3.0.conv1.weight": (64, 32, 3, 3)},
    "resnet32_cifar": {"layer2.4.conv2.weight": (32, 32, 3, 3), "linear.weight": (10, 64)},
    "resnet44_cifar": {"layer2.6.bn1.bias": (32,)},
    "resnet56_cifar": {"conv1.weight": (16, 3, 3, 3), "layer3.8.bn2.num_batches_tracked": ()},
    "resnet110_cifar": {"layer3.17.conv2.weight": (64, 64, 3, 3)},
    "resnet20_projecting_cifar": {"layer2.0.downsample.0.weight": (32, 16, 1, 1), "fc.weight": (10, 64)},
    "resnet32_projecting_cifar": {"layer3.0.downsample.1.running_mean": (64,)},
    "resnet44_projecting_cifar": {"layer2.6.bn1.bias": (32,)},
    "resnet56_projecting_cifar": {"layer1.0.conv1.weight": (16, 16, 3, 3), "fc.bias": (10,)},
    "resnet110_projecting_cifar": {"layer3.17.conv2.weight": (64, 64, 3, 3)},
    "preactresnet18_cifar": {
        "layer1.0.bn1.weight": (64,),
        "layer2.0.bn1.weight": (64,),
        "layer2.0.shortcut.0.weight": (128, 64, 1, 1),
        "linear.bias": (10,),
    },
    "vgg16_cifar": {  # the convolutions as torchvision's vgg16 counts them
        "features.0.bias": (64,),
        "features.2.weight": (64, 64, 3, 3),
        "features.28.weight": (512, 512, 3, 3),
        "classifier.weight": (10, 512),
    },
    "vgg16_bn_cifar": {
        "features.0.bias": (64,),
        "features.1.running_mean": (64,),
        "features.40.weight": (512, 512, 3, 3),
        "classifier.weight": (10, 512),
    },
    "vgg19_bn_cifar": {"features.49.weight": (512, 512, 3, 3), "features.50.weight": (512,)},
    "smallvgg_cifar": {
        "features.0.bias": (32,),
        "features.1.running_mean": (32,),
        "features.8.weight": (64, 32, 3, 3),
        "features.20.running_var": (128,),
        "classifier.weight": (10, 2048),
    },
    "mobilenetv2_cifar": {
        "layers.0.shortcut.0.weight": (16, 32, 1, 1),
        "layers.1.conv2.weight": (96, 1, 3, 3),
        "layers.16.bn3.weight": (320,),
        "conv2.weight": (1280, 320, 1, 1),
        "linear.weight": (10, 1280),
    },
    "wideresnet_cifar": {
        "conv1.weight": (16, 3, 3, 3),
        "block1.layer.0.bn1.weight": (16,),
        "block1.layer.0.convShortcut.weight": (160, 16, 1, 1),
        "block3.layer.3.conv2.weight": (640, 640, 3, 3),
        "bn1.weight": (640,),
        "fc.weight": (10, 640),
    },
}


def build(text: str, num_classes: int = 10) -> torch.nn.Module:
    told = spec.parse(text)
    architecture = architectures.REGISTRY[told.name]
    spec.check(told, architecture)
    defaults = {name: argument.default for name, argument in architecture.arguments.items()}
    return architecture.build(num_classes, **{**defaults, **told.given})


@pytest.mark.parametrize("text", PARAMETERS)
def test_parameters_are_as_many_as_in_the_public_layout(text: str) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build(text).parameters()) == PARAMETERS[text]


@pytest.mark.parametrize("name", architectures.REGISTRY)
def test_keys_are_those_of_the_public_layout(name: str) -> None:
    with torch.device("meta"):
        state = build(name).state_dict()
    assert {key: tuple(state[key].shape) for key in LANDMARKS[name]} == LANDMARKS[name]


def test_no_shortcut_where_the_public_layout_has_none() -> None:
    with torch.device("meta"):
        assert not [key for key in build("preactresnet18_cifar").state_dict() if "shortcut.1" in key]
        assert "layer1.0.shortcut.0.weight" not in build("resnet18_cifar").state_dict()
        assert "layers.3.shortcut.0.weight" not in build("mobilenetv2_cifar").state_dict()  # strides
        narrow = build("wideresnet_cifar:depth=10,width=1").state_dict()
    assert "block1.layer.0.convShortcut.weight" not in narrow


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", architectures.REGISTRY)
def test_forward_gives_one_logit_a_class(name: str, size: int) -> None:
    small = {"wideresnet_cifar": ":depth=10,width=1", "mobilenetv2_cifar": ""}.get(name, ":width=8")
    module = build(name + small, num_classes=7).eval()
    with torch.no_grad():
        assert module(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_pre_activated_blocks_project_the_activated_input() -> None:
    """With the body at zero only the shortcut speaks: a projection of nothing negative, or the raw input."""
    for block, name in ((PreActBlock, "shortcut"), (WideBlock, "convShortcut")):
        module = block(4, 8, 2).eval()
        torch.nn.init.zeros_(module.conv2.weight)
        assert module(-torch.rand(1, 4, 8, 8)).abs().max() == 0, name
        same = block(4, 4, 1).eval()
        torch.nn.init.zeros_(same.conv2.weight)
        x = -torch.rand(1, 4, 8, 8)
        assert torch.equal(same(x), x), name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "form"),
        (":width=3", "form"),
        ("resnet18_cifar:", "form"),
        ("resnet18_cifar:width", "form"),
        ("resnet18_cifar:width=-1", "form"),
        ("resnet18_cifar:width=8,width=8", "once"),
        ("resnet18_cifar:width=0", "1 to 1024"),
        ("resnet18_cifar:depth=18", "'depth'"),
        ("mobilenetv2_cifar:width=2", "no arguments"),
        ("wideresnet_cifar:depth=27", "in steps of 6"),
        ("wideresnet_cifar:depth=999999999", "10 to 1000"),
    ],
)
def test_bad_arguments_are_refused_with_their_bounds(text: str, said: str) -> None:
    with pytest.raises(OptionsError, match=said) as caught:
        build(text)
    assert caught.value.code == "options.architecture"


def test_canonical_spec_holds_what_differs_from_the_defaults() -> None:
    wide = architectures.REGISTRY["wideresnet_cifar"]
    assert spec.canonical("wideresnet_cifar", wide, {"width": 10, "depth": 28}) == "wideresnet_cifar"
    assert spec.canonical("w", wide, {"width": 2, "depth": 40}) == "w:depth=40,width=2"


def test_names_of_libraries_never_reach_a_network() -> None:
    """Timm reads `hf-hub:` and `local-dir:` as addresses; neither may get through."""
    for name in ("timm/hf-hub:someone/model", "timm/local-dir:here", "torchvision/../x", "other/resnet18"):
        assert architectures.find(name) is None


@pytest.mark.parametrize(
    "name", ["torchvision/squeezenet1_1", "torchvision/regnet_y_400mf", "timm/resnet10t"]
)
def test_library_classifiers_are_built_without_weights(name: str) -> None:
    if name not in vision.names():
        pytest.skip("the vision extra is not installed")
    architecture = architectures.find(name)
    assert architecture is not None
    module = architecture.build(5).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert architecture.infer(shapes) == {"num_classes": 5}
    with torch.no_grad():
        assert module(torch.randn(1, *architecture.input_shape)).shape == (1, 5)
