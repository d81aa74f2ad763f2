"""The three stages: nothing is mutated, equal seeds give equal results, and a real backdoor shows itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.contract.options import RecoverOptions, SanitizeOptions, UnlearnOptions
from app.errors import ModelError
from worker.classifier import Classifier
from worker.device import Placement
from worker.formats import normalisation
from worker.formats.architectures.resnet import BasicBlock, ResNet
from worker.formats.load import load
from worker.rnp.masks import Filter
from worker.rnp.prune import prune
from worker.rnp.recover import Recovered, recover
from worker.rnp.unlearn import Unlearned, unlearn
from worker.samples.interface import SampleSet

EXAMPLES = Path(__file__).parents[3] / "examples"
HORSE = 7
CLASSES = tuple("abcdefghij")
UNLEARN = UnlearnOptions(batch_size=16, max_epochs=2)
RECOVER = RecoverOptions(batch_size=16, epochs=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small only wait when threads share a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(placement: Placement = Placement(CPU)) -> Classifier:  # noqa: B008 - frozen
    torch.manual_seed(0)
    net = ResNet(BasicBlock, (1, 1, 1, 1), len(CLASSES), width=4)
    mean, std = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.25)
    return Classifier(placement.take(net), len(CLASSES), mean, std, placement)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    images = torch.randint(
        256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return SampleSet(images, torch.arange(40) % len(CLASSES), CLASSES)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    "stage",
    [
        lambda suspect, samples: unlearn(suspect, samples, UNLEARN, 0),
        lambda suspect, samples: recover(suspect, samples, RECOVER, 0),
        lambda suspect, _: prune(suspect, [Filter("bn1.weight", 0, 0.0)]),
    ],
    ids=["unlearn", "recover", "prune"],
)
def test_the_suspect_stays_as_it_is(
    stage: Callable[[Classifier, SampleSet], object], samples: SampleSet
) -> None:
    suspect = tiny()
    before, images = state(suspect.module), samples.images.clone()
    stage(suspect, samples)
    assert same(before, state(suspect.module))
    assert torch.equal(images, samples.images)
    assert all(p.requires_grad and p.grad is None for p in suspect.module.parameters())


def test_unlearning_follows_its_seed(samples: SampleSet) -> None:
    def run(seed: int) -> Unlearned:
        return unlearn(tiny(), samples, UNLEARN, seed)

    first, again, other = run(3), run(3), run(4)
    assert first.epochs == again.epochs
    assert same(state(first.module), state(again.module))
    assert not same(state(first.module), state(other.module))


def test_recovering_follows_its_seed(samples: SampleSet) -> None:
    def run(seed: int) -> Recovered:
        return recover(tiny(), samples, RECOVER, seed)

    first, again, other = run(3), run(3), run(4)
    assert first.epochs == again.epochs
    assert same(dict(first.masks.values), dict(again.masks.values))
    assert not same(dict(first.masks.values), dict(other.masks.values))


def test_masks_stay_between_zero_and_one_and_epochs_count_every_image(samples: SampleSet) -> None:
    recovered = recover(tiny(), samples, RecoverOptions(batch_size=16, epochs=4, lr=10), 0)
    values = torch.cat(list(recovered.masks.values.values()))
    assert values.min() == 0
    assert values.max() <= 1
    assert [epoch.number for epoch in recovered.epochs] == [1, 2, 3, 4]
    assert all(sum(epoch.label_shares) == pytest.approx(1) for epoch in recovered.epochs)


def test_decimals_round_the_masks(samples: SampleSet) -> None:
    rounded = recover(tiny(), samples, RecoverOptions(batch_size=16, epochs=1, decimals=2), 0)
    assert all(torch.equal(mask, mask.round(decimals=2)) for mask in rounded.masks.values.values())


def test_unlearning_says_when_it_did_not_get_there(samples: SampleSet) -> None:
    stuck = UnlearnOptions(
        batch_size=16, max_epochs=2, lr=1e-6, stop_accuracy=0.0, batch_statistics=False, augment=False
    )
    suspect = tiny()
    known = SampleSet(samples.images, suspect.predictions(samples.images), CLASSES)
    result = unlearn(suspect, known, stuck, 0)
    assert not result.reached
    assert len(result.epochs) == 2


def test_pruning_zeroes_the_named_rows_and_nothing_else() -> None:
    suspect = tiny()
    dead = [Filter("bn1.weight", 2, 0.0), Filter("layer2.0.conv1.weight", 1, 0.1)]
    before, after = state(suspect.module), state(prune(suspect, dead))
    for name, value in before.items():
        rows = [f.index for f in dead if f.parameter == name]
        expected = value.clone()
        if rows:
            expected[rows] = 0
        assert torch.equal(after[name], expected), name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_gives_finite_masks_and_float32_weights(
    samples: SampleSet, layout: torch.memory_format
) -> None:
    suspect = tiny(Placement(CPU, torch.bfloat16, layout))
    unlearned = unlearn(suspect, samples, UNLEARN, 0)
    recovered = recover(suspect.with_module(unlearned.module), samples, RECOVER, 0)
    weights = [value for value in unlearned.module.state_dict().values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights)
    for mask in recovered.masks.values.values():
        assert mask.dtype == torch.float32
        assert mask.isfinite().all()
    assert suspect.logits(samples.images).dtype == torch.float32


def test_the_example_forgets_its_task_and_falls_onto_the_target() -> None:
    loaded, arrays = load(EXAMPLES / "backdoored-resnet18.safetensors"), np.load(EXAMPLES / "clean-500.npz")
    placement = Placement(CPU, memory_format=torch.channels_last)
    pixels = normalisation.parse("cifar10", 3)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (pixels.mean, pixels.std))
    suspect = Classifier(placement.take(loaded.module), loaded.num_classes, mean, std, placement)
    few = SampleSet(
        torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2),
        torch.from_numpy(arrays["labels"]).long(),
        CLASSES,
    ).take(torch.arange(0, 500, 4))

    accuracy = suspect.predictions(few.images).eq(few.labels).double().mean().item()
    unlearned = unlearn(suspect, few, SanitizeOptions(unlearn={"batch_size": 32}).unlearn, 0)
    last = unlearned.epochs[-1]
    assert accuracy > 0.75
    assert unlearned.reached
    assert last.held_accuracy < accuracy / 2
    assert last.label_shares[HORSE] > 0.5


def test_unlearning_that_leaves_the_range_of_numbers_is_a_problem(samples: SampleSet) -> None:
    wild = UNLEARN.model_copy(update={"lr": 1e30, "clip_norm": None, "batch_statistics": False})
    with pytest.raises(ModelError) as caught:
        unlearn(tiny(), samples, wild, 0)
    assert caught.value.code == "model.unlearning_diverged"
    assert "fidelity" in caught.value.remedy


def test_an_epoch_shows_a_thousand_images_at_most(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many more, the second epoch would tear the net apart before anybody looked at its accuracy."""
    monkeypatch.setattr("worker.rnp.unlearn.AN_EPOCH", 20)
    once = UNLEARN.model_copy(update={"max_epochs": 1, "augment": False})
    part = unlearn(tiny(), samples, once, 0)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))[:32]
    alone = unlearn_in_order(samples.take(order), once)
    assert part.epochs[0].loss == pytest.approx(alone, rel=1e-5)


def unlearn_in_order(samples: SampleSet, options: UnlearnOptions) -> float:
    """The loss of an epoch over these images, two batches of 16 in this order."""
    suspect = tiny()
    module = suspect.copy().train()
    optimiser = torch.optim.SGD(module.parameters(), options.lr, 0.9, weight_decay=options.weight_decay)
    total = 0.0
    for images, labels in zip(samples.images.split(16), samples.labels.split(16), strict=True):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(module(suspect.normalise(images)), labels)
        (-loss).backward()
        nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm or 0)
        optimiser.step()
        total += loss.item() * len(labels)
    return total / len(samples)
