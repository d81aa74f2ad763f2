"""Trigger recovery on a net whose shortcut is known, because the test built it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.contract.options import PerturbationOptions, RelearnOptions
from benchmarks.efficacy.subjects import WEIGHTS, classifier
from tests.conftest import SAMPLES
from worker.classifier import Classifier
from worker.detectors.forms import HURRIED, Patch, Warp
from worker.detectors.perturbation import (
    FIRMLY,
    STRENGTHS,
    Bend,
    Blend,
    Form,
    Perturbation,
    relative_size,
    smallest,
)
from worker.detectors.trigger import attack, recover_perturbations
from worker.device import Placement
from worker.repair.relearn import relearn
from worker.samples.interface import SampleSet

SIZE, CLASSES, TARGET = 8, 4, 2


class Shortcut(nn.Module):
    """Class k is the brightest quarter of the image; a bright corner pixel means TARGET whatever the rest says."""

    def __init__(self) -> None:
        super().__init__()
        quarters = torch.zeros(CLASSES + 1, 1, SIZE, SIZE)
        for k in range(CLASSES):
            row, column = divmod(k, 2)
            quarters[k, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1.0
        quarters[CLASSES, :, 7, 7] = 16.0
        self.features = nn.Conv2d(1, CLASSES + 1, SIZE, bias=False)
        self.features.weight.data = quarters
        self.norm = nn.BatchNorm2d(CLASSES + 1)
        self.norm.eval()
        head = torch.cat([torch.eye(CLASSES), torch.zeros(CLASSES, 1)], 1)
        head[TARGET, CLASSES] = 8.0
        self.head = nn.Linear(CLASSES + 1, CLASSES, bias=False)
        self.head.weight.data = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.features(images)).relu().flatten(1))
        return logits


def suspect() -> Classifier:
    still = torch.zeros(1, 1, 1, 1)
    return Classifier(Shortcut().eval(), CLASSES, still, still + 1, Placement(torch.device("cpu")))


def clean() -> SampleSet:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % CLASSES
    images = torch.randint(0, 40, (80, 1, SIZE, SIZE), generator=draw)
    for image, k in zip(images, labels.tolist(), strict=True):
        row, column = divmod(k, 2)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
    images[:, :, 7, 7] = 0  # no clean image takes the shortcut
    return SampleSet(images.byte(), labels, tuple("abcd"))


@pytest.fixture(scope="module")
def found() -> tuple[Perturbation, ...]:
    return recover_perturbations(suspect(), clean(), range(CLASSES), PerturbationOptions(), seed=0)


def test_the_smallest_patch_is_the_shortcut_and_lies_where_the_shortcut_lies(
    found: tuple[Perturbation, ...],
) -> None:
    sizes = smallest(found, found)
    assert min(sizes, key=sizes.__getitem__) == TARGET
    assert sizes[TARGET] < 0.5
    patch = next(p for p in found if p.target_class == TARGET and p.form is Form.PATCH)
    assert isinstance(patch.change, Blend)
    assert (1 - patch.change.keep).flatten().argmax() == 7 * SIZE + 7


class Shrunk(nn.Module):
    """The same net, of images that are so many times as large."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.smaller, self.net = nn.AvgPool2d(times), Shortcut()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(self.smaller(images))
        return logits


@pytest.mark.parametrize("times", [4, 16])
def test_patches_are_found_on_large_images_too(times: int) -> None:
    """A mask of 128 pixels a side has 256 times as many of them; where each cost as much, it shrank to nothing."""
    small = clean()
    large = small.images.repeat_interleave(times, 2).repeat_interleave(times, 3)
    asked = suspect().with_module(Shrunk(times).eval())
    samples = SampleSet(large, small.labels, small.class_names)
    options = PerturbationOptions(steps=100)
    patches = recover_perturbations(asked, samples, range(CLASSES), options, seed=0, forms=(Patch,))
    sizes = smallest(patches, patches)
    assert min(sizes, key=sizes.__getitem__) == TARGET
    assert sizes[TARGET] < 0.5


def test_a_batch_of_one_class_says_nothing_of_ways_into_it() -> None:
    images = clean().take((clean().labels == TARGET).nonzero().flatten())
    search = Patch((2, 1, SIZE, SIZE), torch.device("cpu"), torch.Generator().manual_seed(0))
    hits = attack(search, suspect(), images.images, images.labels, torch.tensor([TARGET, 0]))
    assert hits[0].isnan()
    assert hits[1].isfinite()


def hurried(given: PerturbationOptions) -> PerturbationOptions:
    return given.model_copy(update=given.hurried.model_dump())


def test_a_search_that_hurries_finds_the_shortcut_too_and_what_it_finds_is_larger(
    found: tuple[Perturbation, ...],
) -> None:
    quick = recover_perturbations(
        suspect(), clean(), range(CLASSES), hurried(PerturbationOptions()), seed=0, pace=HURRIED
    )
    assert [p.form for p in quick].count(Form.PATCH) == 2 * CLASSES
    assert [p.form for p in quick].count(Form.DENSE) == CLASSES
    sizes = smallest(quick, quick)
    assert min(sizes, key=sizes.__getitem__) == TARGET
    assert sizes[TARGET] < 0.5
    typical = [sorted(p.size for p in of if p.form is Form.DENSE)[CLASSES // 2] for of in (found, quick)]
    assert typical[0] <= typical[1]


def test_made_stronger_it_leads_nearly_all(found: tuple[Perturbation, ...]) -> None:
    dense = next(p for p in found if p.target_class == TARGET and p.form is Form.DENSE)
    weak = replace(dense, change=dense.change.times(0.8))
    times, stronger = weak.firm(suspect(), clean())
    assert weak.success(suspect(), clean()).value < FIRMLY <= stronger.success(suspect(), clean()).value
    assert 1 < times <= STRENGTHS[-1]
    assert weak.firm(suspect(), clean().take(torch.arange(0)))[0] == 1, "nothing says that more would help"


def test_success_counts_images_of_other_classes_only(found: tuple[Perturbation, ...]) -> None:
    patch = next(p for p in found if p.target_class == TARGET and p.form is Form.PATCH)
    success = patch.success(suspect(), clean())
    assert success.n == 60
    assert success.value >= 0.8, "the search keeps what succeeds on nine of ten in its running mean"


def test_one_seed_finds_one_perturbation() -> None:
    options = PerturbationOptions(steps=5, success=0.01)
    first, again = (
        recover_perturbations(suspect(), clean(), range(CLASSES), options, seed=3) for _ in range(2)
    )
    pixels = torch.rand(2, 1, SIZE, SIZE)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.perturb(pixels), b.perturb(pixels))
        assert a.size == b.size


def test_a_class_that_no_image_goes_over_to_has_an_infinite_size_and_no_relative_one() -> None:
    none = recover_perturbations(suspect(), clean(), [0, 1], PerturbationOptions(steps=1), seed=0)
    assert all(p.size == float("inf") for p in none)
    assert relative_size(none[0], none) == 1.0
    assert torch.equal(none[0].stamp(clean().images), clean().images)


def test_relearning_closes_the_shortcut_and_keeps_the_task(found: tuple[Perturbation, ...]) -> None:
    accused = [p for p in found if p.target_class == TARGET]
    model = suspect()
    before = {name: p.clone() for name, p in model.module.named_parameters()}
    options = RelearnOptions(steps=100, lr=0.05, augment=False)
    repaired = model.with_module(relearn(model, (), clean(), accused, {}, options, seed=0))
    assert (repaired.predictions(clean().images) == clean().labels).double().mean() >= 0.95
    assert max(p.success(repaired, clean()).value for p in accused) <= 0.1
    assert all(torch.equal(before[name], p) for name, p in model.module.named_parameters())


def test_a_planted_warp_is_found_and_is_the_smallest_by_far() -> None:
    """On a WaNet ResNet-18 of the zoo, by its own search: 150 of the example's images fit, 200 judge."""
    every = np.load(SAMPLES.with_suffix(".npz"))
    images, labels = torch.from_numpy(every["images"]).permute(0, 3, 1, 2), torch.from_numpy(every["labels"])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    fit, held = (
        SampleSet(images[part], labels[part], tuple("abcdefghij")) for part in (order[:150], order[150:350])
    )
    model = classifier(WEIGHTS / "wanet-resnet18.safetensors", Placement(torch.device("cpu")))
    options = PerturbationOptions(steps=70, batch_size=12)
    found = recover_perturbations(model, fit, [1, 3, 4], options, seed=0, forms=(Warp,))
    sizes = {p.target_class: min(p.size, p.tried) for p in found}
    warp = next(p for p in found if p.target_class == 3)
    assert warp.success(model, held).low > 0.75
    assert warp.size < 0.5 * min(sizes[1], sizes[4])


def test_warps_are_looked_for_up_to_an_eighth_of_the_side_and_no_further() -> None:
    found = recover_perturbations(suspect(), clean(), range(CLASSES), PerturbationOptions(), seed=0)
    warps = [p for p in found if p.form is Form.WARP]
    assert all(p.tried == pytest.approx(SIZE / 8, rel=1e-3) for p in warps if p.size == float("inf"))


def test_no_bend_changes_nothing_and_a_bend_of_one_pixel_is_a_shift() -> None:
    pixels = torch.rand(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(2, 2, 6, 5)
    flow[1, 0] = 1.0
    still, shifted = Bend(flow)(pixels)
    torch.testing.assert_close(still, pixels)
    torch.testing.assert_close(shifted, pixels[..., [1, 2, 3, 4, 4]])
    torch.testing.assert_close(Bend(flow).pick(1)(pixels)[0], shifted)


def test_a_class_that_never_went_over_counts_with_what_was_tried() -> None:
    nothing = Blend(torch.ones(1, 1, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE))

    def of(form: Form) -> list[Perturbation]:
        failed = [Perturbation(k, form, nothing, float("inf"), tried=4.0) for k in range(3)]
        return [Perturbation(3, form, nothing, 1.0, tried=4.0), *failed]

    among = of(Form.DENSE) + of(Form.WARP)
    assert relative_size(among[0], among) == 0.25
    assert relative_size(among[4], among) == 0.5, "the root, of warps"
    assert smallest(among, among) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.25}


def test_a_perturbation_can_be_made_stronger() -> None:
    pixels = torch.full((1, 1, 1, 2), 0.5)
    mask, pattern = torch.tensor([[[[0.3, 0.8]]]]), torch.tensor([[[[1.0, 0.0]]]])
    patch = Blend(1 - mask, mask * pattern)
    assert patch.times(1.0)(pixels).flatten().tolist() == pytest.approx(patch(pixels).flatten().tolist())
    twice = patch.times(2.0)(pixels).flatten().tolist()
    assert twice == pytest.approx([0.4 * 0.5 + 0.6, 0.0]), "twice as opaque, and never more than wholly"
    added = Blend(torch.ones(1, 1, 1, 2), torch.tensor([[[[0.1, -0.1]]]]))
    assert added.times(2.0)(pixels).flatten().tolist() == pytest.approx([0.7, 0.3])
    assert Bend(torch.ones(1, 2, 1, 2)).times(1.5).flow.unique().tolist() == [1.5]


@pytest.mark.parametrize("change", ["blend", "bend"])
def test_a_mirrored_change_does_to_a_mirrored_image_what_the_change_does_to_the_image(change: str) -> None:
    draw = torch.Generator().manual_seed(3)
    keep, add = (
        torch.rand(1, 1, SIZE, SIZE, generator=draw),
        0.5 * torch.rand(1, 3, SIZE, SIZE, generator=draw),
    )
    flow = 2 * torch.randn(1, 2, SIZE, SIZE, generator=draw)
    made = Blend(keep, add) if change == "blend" else Bend(flow)
    found = Perturbation(TARGET, Form.PATCH if change == "blend" else Form.WARP, made, 1.0)
    pixels = torch.rand(5, 3, SIZE, SIZE, generator=draw)
    mirrored = found.mirrored().perturb(pixels.flip(3)).flip(3)
    torch.testing.assert_close(mirrored, found.perturb(pixels))
    assert not torch.allclose(found.mirrored().perturb(pixels), found.perturb(pixels))
