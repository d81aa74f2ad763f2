"""What the app says that the worker understands is what the worker understands."""

from app.contract import capabilities
from worker.formats import normalisation, stored
from worker.formats.architectures import REGISTRY, vision
from worker.repair import verdict


def test_the_names_are_the_workers_own() -> None:
    assert list(REGISTRY) == list(capabilities.ARCHITECTURES)
    assert list(normalisation.PRESETS) == list(capabilities.NORMALISATIONS)
    assert capabilities.LIBRARIES == (vision.TORCHVISION, vision.TIMM)
    assert {form.name for form in stored.FORMATS} == set(capabilities.FORMATS)
    assert set(capabilities.DETECTORS) == {verdict.SHIFT, verdict.SIZE}
