"""What the app says that the worker understands is what the worker understands."""

from app.contract import capabilities
from worker.detectors.verdict import TOGETHER, UNITS
from worker.formats import normalisation, stored
from worker.formats.architectures import REGISTRY, vision


def test_the_names_are_the_workers_own() -> None:
    assert list(REGISTRY) == list(capabilities.ARCHITECTURES)
    assert list(normalisation.PRESETS) == list(capabilities.NORMALISATIONS)
    assert capabilities.LIBRARIES == (vision.TORCHVISION, vision.TIMM)
    assert {form.name for form in stored.FORMATS} == set(capabilities.FORMATS)
    assert set(capabilities.DETECTORS) == set(UNITS) - {TOGETHER}
