"""What the service understands, by name.

The worker owns the architectures and formats, and the app never loads it; so their names stand here, and a test holds
them beside the worker's own.
"""

from typing import Any

from pydantic import Field

from app.contract.artifact import ArtifactKind
from app.contract.frozen import Frozen
from app.contract.job import JobKind
from app.contract.options import SanitizeOptions

FORMATS = ("safetensors", "pytorch")
ARCHITECTURES = (
    "resnet18_cifar",
    "resnet34_cifar",
    "resnet50_cifar",
    "resnet20_cifar",
    "resnet32_cifar",
    "resnet44_cifar",
    "resnet56_cifar",
    "resnet110_cifar",
    "resnet20_projecting_cifar",
    "resnet32_projecting_cifar",
    "resnet44_projecting_cifar",
    "resnet56_projecting_cifar",
    "resnet110_projecting_cifar",
    "preactresnet18_cifar",
    "vgg16_cifar",
    "vgg16_bn_cifar",
    "vgg19_bn_cifar",
    "smallvgg_cifar",
    "mobilenetv2_cifar",
    "wideresnet_cifar",
)
LIBRARIES = ("torchvision/", "timm/")
NORMALISATIONS = (
    "cifar10",
    "cifar10_rnp",
    "none",
    "imagenet",
    "half",
    "cifar100",
    "tiny_imagenet",
    "gtsrb",
)
DETECTORS = (
    "label shift of the unlearned model",
    "movement of the last layer in unlearning",
    "relative size of the smallest perturbation",
    "relative length of the shortest way in the features",
    "share that what BatchNorm remembers leads into one class",
)


class KindCapability(Frozen):
    """One kind of job."""

    needs: tuple[ArtifactKind, ...] = Field(description="inputs without which there is no such job")
    takes: tuple[ArtifactKind, ...] = Field(description="inputs that it may do without")
    options: dict[str, Any] = Field(description="JSON Schema of its options, defaults included")


class Capabilities(Frozen):
    """What a job may name."""

    formats: tuple[str, ...] = Field(FORMATS, description="of model files, found from their bytes")
    architectures: tuple[str, ...] = Field(ARCHITECTURES, description="always there; `auto` finds them")
    libraries: tuple[str, ...] = Field(
        LIBRARIES,
        description="prefixes of architectures, such as torchvision/resnet18; a worker knows them where it has the "
        "library, and a job says so where it has not",
    )
    normalisations: tuple[str, ...] = Field(
        NORMALISATIONS, description="presets; m1,m2,m3/s1,s2,s3 works too"
    )
    detectors: tuple[str, ...] = Field(DETECTORS, description="signals of a verdict")
    kinds: dict[JobKind, KindCapability]


CAPABILITIES = Capabilities(
    kinds={
        kind: KindCapability(
            needs=kind.needs,
            takes=kind.takes,
            options=SanitizeOptions.model_json_schema(mode="serialization"),
        )
        for kind in JobKind
    }
)
