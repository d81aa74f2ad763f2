"""What BatchNorm remembers of training, on a net whose shortcut is known and whose statistics the test has set."""

import pytest
import torch
from torch import Tensor

from app.contract.options import StatisticsOptions
from tests.worker.detectors.test_trigger import TARGET, Shortcut, suspect
from tests.worker.detectors.test_trigger import clean as black_cornered
from worker.classifier import Classifier
from worker.detectors.batch_statistics import recall, recalled
from worker.detectors.perturbation import Form
from worker.remembered import Moments, remembering
from worker.samples.interface import SampleSet

OPTIONS = StatisticsOptions(steps=60, batch_size=40, lr=8 / 255)
POISONED = 8  # of the 80 images


def clean() -> SampleSet:
    samples = black_cornered()
    images = samples.images.clone()
    images[:, :, 7, 7] = torch.randint(
        40, 80, (len(images), 1), generator=torch.Generator().manual_seed(1)
    ).byte()
    return SampleSet(images, samples.labels, samples.class_names)


def trained_on(images: Tensor) -> Classifier:
    """The net as training on these images leaves it: its BatchNorm remembers them."""
    model = suspect()
    assert isinstance(model.module, Shortcut)
    entered = model.module.features(model.normalise(images))
    model.module.norm.running_mean = entered.mean((0, 2, 3)).detach()
    model.module.norm.running_var = entered.var((0, 2, 3), correction=0).detach() + 1e-4
    return model


def poisoned() -> Tensor:
    images = clean().images.clone()
    images[:POISONED, :, 7, 7] = 255
    return images


def test_what_training_saw_and_clean_images_do_not_show_leads_into_the_target() -> None:
    model = trained_on(poisoned())
    added = recall(model, clean(), OPTIONS, seed=0)
    assert added is not None
    assert added.shape == (1, *clean().images.shape[1:])
    assert added[0, 0, 7, 7] == added.max()
    pull, perturbation = recalled(model, clean(), added)
    assert (pull.target_class, perturbation.target_class, perturbation.form) == (
        TARGET,
        TARGET,
        Form.RECALLED,
    )
    assert pull.value > 0.9
    assert perturbation.success(model, clean()).value > 0.9
    assert perturbation.size == pytest.approx(float(added.norm()))


def test_statistics_of_the_clean_images_themselves_lead_nowhere() -> None:
    model = trained_on(clean().images)
    added = recall(model, clean(), OPTIONS, seed=0)
    assert added is not None
    assert recalled(model, clean(), added)[0].value < 0.1


def test_the_suspect_stays_as_it_is_and_one_seed_gives_one_answer() -> None:
    model = trained_on(poisoned())
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    first, again = (recall(model, clean(), StatisticsOptions(steps=3), seed=1) for _ in range(2))
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_nothing_is_recalled_where_nothing_is_remembered_or_nobody_asks() -> None:
    forgetful = suspect()
    assert isinstance(forgetful.module, Shortcut)
    forgetful.module.norm = torch.nn.BatchNorm2d(5, track_running_stats=False)
    assert not remembering(forgetful.module)
    assert recall(forgetful, clean(), OPTIONS, seed=0) is None
    assert recall(trained_on(poisoned()), clean(), StatisticsOptions(steps=0), seed=0) is None


def test_moments_of_a_mixture_are_those_of_all_its_values() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    whole, first, rest = (
        Moments(v.mean(1), v.square().mean(1)) for v in (values, values[:, :3], values[:, 3:])
    )
    mixed = first.mixed(rest, 0.25)
    assert torch.allclose(mixed.mean, whole.mean)
    assert torch.allclose(mixed.variance, values.var(1, correction=0))


def test_statistics_of_altogether_other_images_are_not_heard() -> None:
    model, samples = trained_on(poisoned()), clean()
    darker = SampleSet(samples.images // 2, samples.labels, samples.class_names)
    assert recall(model, samples, StatisticsOptions(steps=1), seed=0) is not None
    assert recall(model, darker, StatisticsOptions(steps=1), seed=0) is None
