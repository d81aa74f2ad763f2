"""Relearning, on a net small enough to look into."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from app.contract.options import RelearnOptions
from worker.classifier import Classifier
from worker.detectors.perturbation import Blend, Form, Perturbation
from worker.device import Placement
from worker.repair.features import Features, Hints, first_to_run, head, hinting
from worker.repair.mixture import mixture
from worker.repair.relearn import partway, relearn
from worker.rnp.masks import Filter
from worker.samples.interface import SampleSet

TARGET, STEPS = 0, 60
DEAD = (Filter("0.weight", 5, 0.1),)
HALF = {"0.weight": torch.float16}
OPTIONS = RelearnOptions(steps=STEPS, lr=0.01, augment=False)


@pytest.fixture
def suspect() -> Classifier:
    """Four classes by colour, learned in a moment; a bright corner leads into class 0."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    still = torch.zeros(1, 3, 1, 1)
    classifier = Classifier(module, 4, still, still + 1, Placement(torch.device("cpu")))
    clean = samples()
    images = torch.cat([clean.images, corner().stamp(clean.images)])
    labels = torch.cat([clean.labels, torch.full_like(clean.labels, TARGET)])
    optimiser = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(classifier.normalise(images)), labels).backward()
        optimiser.step()
    module.eval()
    return classifier


def samples() -> SampleSet:
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(80) % 4
    images = torch.randint(0, 60, (80, 3, 8, 8), generator=draw).byte()
    for channel in range(3):
        images[labels == channel + 1, channel] += 120
    return SampleSet(images, labels, tuple("abcd"))


def corner() -> Perturbation:
    keep, add = torch.ones(1, 1, 8, 8), torch.zeros(1, 3, 8, 8)
    keep[:, :, :2, :2], add[:, :, :2, :2] = 0, 1
    return Perturbation(TARGET, Form.PATCH, Blend(keep, add), 4.0)


def repaired(suspect: Classifier, seed: int = 0) -> nn.Module:
    return relearn(suspect, DEAD, samples(), [corner()], HALF, OPTIONS, seed)


@pytest.mark.parametrize("steps", range(1, 9))
def test_any_number_of_steps_will_do(suspect: Classifier, steps: int) -> None:
    """The schedule divides by the steps that warm up, less one."""
    module = relearn(suspect, (), samples(), [corner()], {}, OPTIONS.model_copy(update={"steps": steps}), 0)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_the_perturbation_is_ignored_and_clean_answers_stay(suspect: Classifier) -> None:
    clean = samples()
    assert corner().success(suspect, clean).value > 0.95
    after = suspect.with_module(repaired(suspect))
    assert corner().success(after, clean).value < 0.05
    assert (after.predictions(clean.images) == clean.labels).double().mean() > 0.95


def test_pruned_filters_stay_pruned_statistics_stay_and_the_suspect_stays(suspect: Classifier) -> None:
    before = deepcopy(suspect.module.state_dict())
    module = repaired(suspect)
    assert not module.get_parameter("0.weight")[5].any()
    assert torch.equal(module.get_buffer("1.running_mean"), before["1.running_mean"])
    assert int(module.get_buffer("1.num_batches_tracked")) == int(before["1.num_batches_tracked"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in suspect.module.state_dict().items())
    assert not module[5]._forward_pre_hooks
    assert not suspect.module[5]._forward_pre_hooks


def test_the_first_layers_alone_learn_to_ignore_it_and_the_last_stays_as_it_was(suspect: Classifier) -> None:
    assert first_to_run(suspect, samples().images[:1], 0.1) == {"0.weight", "0.bias"}
    clean = samples()
    module = relearn(suspect, DEAD, clean, [corner()], HALF, OPTIONS, 0, depth=2 / 3)
    after = suspect.with_module(module)
    assert corner().success(after, clean).value < 0.05
    assert (after.predictions(clean.images) == clean.labels).double().mean() > 0.95
    assert torch.equal(module.get_parameter("5.weight"), suspect.module.get_parameter("5.weight"))
    assert not torch.equal(module.get_parameter("1.weight"), suspect.module.get_parameter("1.weight"))
    assert not module.get_parameter("0.weight")[5].any()


def test_numbers_fit_the_file_also_partway(suspect: Classifier) -> None:
    whole = repaired(suspect)
    half = partway(suspect, DEAD, whole, 0.5, HALF)
    for module in (whole, half):
        weight = module.get_parameter("0.weight")
        assert torch.equal(weight, weight.half().float())
    middle = suspect.module.get_parameter("5.bias").lerp(whole.get_parameter("5.bias"), 0.5)
    assert torch.equal(half.get_parameter("5.bias"), middle)
    assert not half.get_parameter("0.weight")[5].any()


def test_hints_keep_what_runs_inside(suspect: Classifier) -> None:
    """What enters a layer inside stays closer to what it was where it is matched."""
    deep = nn.Sequential(
        suspect.module[0], suspect.module[1], suspect.module[2], nn.Conv2d(8, 8, 1), *suspect.module[3:]
    )
    deep.eval()
    whole = suspect.with_module(deep)
    assert hinting(whole, samples().images[:1]) == ("3",)
    moved = []
    for weight in (0.0, 100.0):
        options = OPTIONS.model_copy(update={"hints": weight, "hints_perturbed": 0.0})
        after = relearn(whole, (), samples(), [corner()], {}, options, 0)
        pixels = whole.normalise(samples().images)
        moved.append(float((after[:3](pixels) - deep[:3](pixels)).detach().square().mean()))  # type: ignore[index]
    assert moved[1] < 0.5 * moved[0]


def test_a_perturbed_image_looks_clean_inside_where_that_is_asked(suspect: Classifier) -> None:
    """Otherwise the layers before the last may go on seeing the corner that the last one ignores."""
    deep = nn.Sequential(
        suspect.module[0], suspect.module[1], suspect.module[2], nn.Conv2d(8, 8, 1), *suspect.module[3:]
    )
    deep.eval()
    whole, clean = suspect.with_module(deep), samples()
    pixels = whole.pixels(clean.images)
    shown = [whole.standardise(images) for images in (pixels, corner().perturb(pixels))]
    seen = []
    for weight in (0.0, 100.0):
        options = OPTIONS.model_copy(update={"hints_perturbed": weight})
        after = relearn(whole, (), clean, [corner()], {}, options, 0)
        plain, perturbed = (after[:3](images).detach() for images in shown)  # type: ignore[index]
        seen.append(float((perturbed - plain).square().mean() / plain.var()))
    assert seen[1] < 0.5 * seen[0]


def test_a_layer_in_which_images_are_not_the_first_axis_gives_no_hint() -> None:
    turned = nn.Sequential(nn.Linear(4, 4))
    known, learned = Hints(turned, ["0"]), Hints(turned, ["0"])
    with known:
        turned(torch.ones(3, 5, 4))  # tokens, images, channels
    with learned:
        turned(torch.ones(3, 9, 4))
    everything = slice(None)
    assert learned.missed(everything, known, everything, 5) == 0
    assert learned.missed(everything, known, everything, 3) == 0


@pytest.mark.parametrize("n", [1, 2, 41])
def test_a_batch_of_one_image_does_no_harm(suspect: Classifier, n: int) -> None:
    """Forty make a batch, so 41 leave one alone: its features have no variance to be measured by."""
    few = samples().take(torch.arange(3, 3 + n))
    module = relearn(suspect, DEAD, few, [corner()], HALF, OPTIONS, 0)
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


def test_one_seed_gives_one_result(suspect: Classifier) -> None:
    first, again, other = (repaired(suspect, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_head_is_what_runs_last_not_what_stands_last(suspect: Classifier) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)
            self.stem = nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.stem(images).mean((2, 3)))
            return logits

    images, module = samples().images, Backwards()
    assert head(suspect.with_module(module), images[:1]) == "head"
    with Features(module, "head") as features:
        suspect.with_module(module).logits(images)
    assert features.seen().shape == (80, 3)


def test_a_mixture_lies_between_two_images_or_takes_each_pixel_from_one() -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(16, 3, 8, 8, generator=draw)
    kinds = set()
    for _ in range(20):
        mixed = mixture(pixels, draw)
        assert mixed.shape == pixels.shape
        assert mixed.min() >= pixels.min()
        assert mixed.max() <= pixels.max()
        among = torch.isclose(mixed[:, None], pixels[None]).flatten(2).any(1).all()
        kinds.add(bool(among))
    assert kinds == {True, False}, "windows and overlays both occur"
