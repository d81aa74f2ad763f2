"""A model is understood exactly, or refused with what would have fitted."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.errors import ModelError, OptionsError
from worker.formats import architectures, normalisation
from worker.formats.architectures import vision
from worker.formats.identify import resolve

ZOO = Path(__file__).parents[3].parent / "shared" / "zoo"
MODELS = ("badnets-w32", "blend-w32", "clean-a-w32")

# spec, number of classes; small where the layout allows it
SPECS = [
    ("resnet18_cifar:width=8", 10),
    ("resnet34_cifar:width=4", 43),
    ("resnet50_cifar:width=4", 2),
    ("resnet20_cifar", 10),
    ("resnet56_cifar:width=8", 43),
    ("resnet56_projecting_cifar", 10),
    ("resnet20_projecting_cifar:width=8", 43),
    ("preactresnet18_cifar:width=6", 100),
    ("vgg16_cifar:width=8", 10),
    ("vgg16_bn_cifar:width=8", 10),
    ("vgg19_bn_cifar:width=5", 12),
    ("smallvgg_cifar:width=8", 43),
    ("mobilenetv2_cifar", 10),
    ("wideresnet_cifar:depth=16,width=1", 10),
    ("wideresnet_cifar:depth=10,width=2", 200),
    ("resnet18_cifar", 10),
    ("wideresnet_cifar:width=2", 10),
    ("wideresnet_cifar:depth=10", 10),
]


def state(text: str, num_classes: int = 10) -> dict[str, torch.Tensor]:
    """Random weights of a spec, with running statistics that are not those of a fresh net."""
    name, _, rest = text.partition(":")
    architecture = architectures.find(name)
    assert architecture is not None
    defaults = {key: argument.default for key, argument in architecture.arguments.items()}
    given = {key: int(value) for key, _, value in (part.partition("=") for part in rest.split(",") if part)}
    torch.manual_seed(0)
    tensors = architecture.build(num_classes, **defaults | given).state_dict()
    return {k: v.uniform_(0.5, 1.5) if k.endswith("running_var") else v for k, v in tensors.items()}


@pytest.mark.parametrize(("text", "num_classes"), SPECS)
def test_auto_finds_the_spec_that_was_built(text: str, num_classes: int) -> None:
    tensors = state(text, num_classes)
    found = resolve(tensors, "auto")
    assert (found.architecture, found.num_classes, found.input_shape) == (text, num_classes, (3, 32, 32))
    assert found.identified
    assert not found.module.training
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in found.module.state_dict().items())
    with torch.no_grad():
        assert found.module(torch.randn(2, 3, 32, 32)).shape == (2, num_classes)


@pytest.mark.parametrize(
    "name", ["torchvision/mobilenet_v2", "torchvision/resnet18", "torchvision/regnet_x_400mf"]
)
def test_auto_finds_torchvision_classifiers(name: str) -> None:
    if name not in vision.names():
        pytest.skip("the vision extra is not installed")
    found = resolve(state(name, 11), "auto")
    assert (found.architecture, found.num_classes) == (name, 11)


def test_timm_classifiers_are_found_by_name() -> None:
    if "timm/resnet10t" not in vision.names():
        pytest.skip("the vision extra is not installed")
    found = resolve(state("timm/resnet10t", 11), "timm/resnet10t")
    assert (found.architecture, found.num_classes, found.identified) == ("timm/resnet10t", 11, False)


@pytest.mark.parametrize("requested", ["resnet18_cifar", "resnet18_cifar:width=8"])
def test_a_named_architecture_reads_what_was_not_said_from_the_shapes(requested: str) -> None:
    found = resolve(state("resnet18_cifar:width=8"), requested)
    assert (found.architecture, found.identified) == ("resnet18_cifar:width=8", False)


def test_prefix_counters_and_left_over_masks_do_not_count() -> None:
    tensors = {f"module.{k}": v for k, v in state("vgg16_bn_cifar:width=4").items() if "num_batches" not in k}
    tensors |= {
        "module.features.1.neuron_mask": torch.ones(4),
        "module.features.1.neuron_noise_bias": torch.ones(4),
    }
    found = resolve(tensors, "auto", prefix="module.")
    assert found.architecture == "vgg16_bn_cifar:width=4"
    assert found.ignored == ("features.1.neuron_mask", "features.1.neuron_noise_bias")


def test_weights_become_float32_copies_and_random_numbers_stay() -> None:
    tensors = {
        k: v.half() if v.is_floating_point() else v for k, v in state("resnet18_cifar:width=4").items()
    }
    before = torch.random.get_rng_state()
    module = resolve(tensors, "auto").module
    assert torch.equal(before, torch.random.get_rng_state())
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    kept = tensors["conv1.weight"].clone()
    torch.nn.init.zeros_(module.get_parameter("conv1.weight"))
    assert torch.equal(tensors["conv1.weight"], kept)


def test_a_wrong_width_names_the_right_one() -> None:
    with pytest.raises(ModelError) as caught:
        resolve(state("resnet18_cifar:width=8"), "resnet18_cifar:width=16")
    error = caught.value
    assert error.code == "model.architecture_mismatch"
    assert (
        "Other shape: conv1.weight is 8×3×3×3 instead of 16×3×3×3, bn1.weight is 8 instead of 16"
        in error.detail
    )
    assert "and 98 more" in error.detail
    assert "Did you mean: resnet18_cifar:width=8 (100 %)" in error.detail
    assert error.remedy == "Set the architecture to resnet18_cifar:width=8, or to auto."


def test_a_wrong_name_is_told_what_is_missing_and_what_fits() -> None:
    with pytest.raises(ModelError) as caught:
        resolve(state("resnet34_cifar:width=4"), "resnet18_cifar")
    assert caught.value.code == "model.architecture_mismatch"
    assert "not hold a resnet18_cifar:width=4." in caught.value.detail
    assert "Unexpected: layer1.2.conv1.weight" in caught.value.detail
    assert "Did you mean: resnet34_cifar:width=4 (100 %), resnet" in caught.value.detail


def test_auto_says_what_stands_between_the_file_and_the_nearest() -> None:
    tensors = state("preactresnet18_cifar:width=4")
    tensors["fc.weight"] = tensors.pop("linear.weight")
    tensors["fc.bias\x1b[31m\n" + "x" * 500] = tensors.pop("linear.bias")
    with pytest.raises(ModelError) as caught:
        resolve(tensors, "auto")
    detail = caught.value.detail
    assert caught.value.code == "model.unknown_architecture"
    assert "Against preactresnet18_cifar:width=4: Missing" in detail
    assert "Missing: linear.weight, linear.bias." in detail
    assert "Unexpected: fc.weight, fc.bias\\x1b[31m\\nxxx" in detail
    assert "x" * 100 not in detail
    assert detail.isprintable()


@pytest.mark.parametrize(
    ("name", "meant"), [("resnet18", "resnet18_cifar"), ("wide_resnet", "wideresnet_cifar")]
)
def test_an_unknown_name_is_answered_with_close_ones(name: str, meant: str) -> None:
    with pytest.raises(ModelError, match=r"Did you mean: .*" + meant) as caught:
        resolve(state("mobilenetv2_cifar"), name)
    assert caught.value.code == "model.unknown_architecture"
    assert "wideresnet_cifar" in caught.value.remedy


def test_a_library_that_is_not_installed_is_said_so() -> None:
    if vision.names():
        pytest.skip("the vision extra is installed")
    with pytest.raises(ModelError) as caught:
        resolve(state("mobilenetv2_cifar"), "torchvision/resnet18")
    assert "model-sanitizer[vision]" in caught.value.remedy


def test_arguments_that_cannot_be_are_an_options_error() -> None:
    for requested in ("resnet18_cifar:width=0", "auto:width=8 9"):
        with pytest.raises(OptionsError) as caught:
            resolve(state("mobilenetv2_cifar"), requested)
        assert caught.value.code == "options.architecture"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: t.clear(), "model.not_a_state_dict"),
        (lambda t: t.update({"m.conv1.weight": t["conv1.weight"]}), "model.not_a_state_dict"),
        (lambda t: (t.pop("linear.weight"), t.pop("linear.bias")), "model.unknown_architecture"),
        (lambda t: t.update({"bn1.bias": t["bn1.bias"].to(torch.int8)}), "model.unsupported_dtype"),
        (lambda t: t.update({"bn1.bias": t["bn1.bias"] + torch.nan}), "model.nonfinite_weights"),
        (lambda t: t.update({"bn1.bias": t["bn1.bias"].double() + 1e300}), "model.nonfinite_weights"),
        (lambda t: t.update({"linear.weight": t["linear.weight"][:1], "linear.bias": t["linear.bias"][:1]}),
         "model.single_output"),
        (lambda t: t.update({"linear.weight": t["linear.weight"][:0], "linear.bias": t["linear.bias"][:0]}),
         "model.unknown_architecture"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(
    change: Callable[[dict[str, torch.Tensor]], object], code: str
) -> None:
    tensors = state("resnet18_cifar:width=4")
    change(tensors)
    with pytest.raises(ModelError) as caught:
        resolve(tensors, "auto", prefix="m.")
    assert caught.value.code == code


@pytest.mark.skipif(not ZOO.is_dir(), reason="the zoo is not here")
@pytest.mark.parametrize("name", MODELS)
def test_zoo_models_are_understood_and_classify(name: str) -> None:
    """Accuracy on 500 test images within 4 points of the card's, which has 10 000: 2.6 standard errors at 0.86."""
    found = resolve(load_file(ZOO / name / "model.safetensors"), "auto")
    assert (found.architecture, found.num_classes) == ("resnet18_cifar:width=32", 10)
    with np.load(ZOO / "test-2000.npz") as held:
        images = torch.from_numpy(held["images"][:500]).permute(0, 3, 1, 2)
        labels = torch.from_numpy(held["labels"][:500]).long()
    with torch.no_grad():
        logits = found.module(normalisation.apply(images, normalisation.parse("cifar10", 3)))
    card = json.loads((ZOO / name / "card.json").read_text())
    assert (logits.argmax(1) == labels).double().mean() == pytest.approx(
        card["clean_accuracy_test_10000"], abs=0.04
    )


def test_the_remedy_names_every_architecture_in_few_words() -> None:
    with pytest.raises(ModelError) as refused:
        resolve(state("resnet20_cifar"), "nonsense")
    words = refused.value.remedy
    assert "resnet{18,34,50,20,32,44,56,110}_cifar, resnet{20,32,44,56,110}_projecting_cifar" in words
    assert "vgg{16,19}_bn_cifar, smallvgg_cifar, mobilenetv2_cifar, wideresnet_cifar" in words
    assert len(words) < 400
