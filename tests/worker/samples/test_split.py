"""The division of the clean samples: disjoint, covering, stratified, and the same every time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import OptionsError, SamplesError
from worker.samples.interface import CleanSplit, SampleSet
from worker.samples.split import PARTS, split, thin_parts


def numbered(labels: list[int]) -> SampleSet:
    """Samples whose pixels are their own number."""
    n = len(labels)
    images = torch.arange(n, dtype=torch.int32).view(torch.uint8).view(n, 1, 2, 2)
    return SampleSet(images, torch.tensor(labels), tuple(map(str, range(10))), "name", "sha256:0")


def numbers(part: SampleSet) -> list[int]:
    return part.images.reshape(-1, 4).contiguous().view(torch.int32).flatten().tolist()


def parts_of(parts: CleanSplit) -> list[SampleSet]:
    return [getattr(parts, name) for name in PARTS]


labelled = st.lists(st.integers(0, 9), min_size=3, max_size=300)
shares = st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.98)).filter(lambda pair: sum(pair) < 0.99)


@settings(deadline=None, max_examples=150)
@given(labels=labelled, pair=shares, seed=st.integers(0, 2**31 - 1))
def test_parts_are_disjoint_cover_all_and_none_is_empty(
    labels: list[int], pair: tuple[float, float], seed: int
) -> None:
    samples = numbered(labels)
    parts = parts_of(split(samples, *pair, seed))
    everything = [number for part in parts for number in numbers(part)]
    assert sorted(everything) == list(range(len(labels)))
    assert all(len(part) for part in parts)
    for part in parts:
        assert numbers(part) == sorted(numbers(part))
        assert part.labels.tolist() == [labels[number] for number in numbers(part)]


@settings(deadline=None, max_examples=150)
@given(labels=labelled, pair=shares)
def test_every_class_gives_every_part_its_share_within_one(
    labels: list[int], pair: tuple[float, float]
) -> None:
    """Within one of the share; one more or less where a part would have been empty."""
    fit, select = pair
    parts = parts_of(split(numbered(labels), fit, select, 0))
    filled = len(labels) * min(fit, select, 1 - fit - select) >= 3  # no part was near empty
    for part, share in zip(parts, (fit, select, 1 - fit - select), strict=True):
        for label in set(labels):
            quota = labels.count(label) * share
            count = int((part.labels == label).sum())
            assert abs(count - quota) < (1 if filled else 3)


@pytest.mark.parametrize("classes", [3, 10])
def test_one_image_per_class_reaches_every_part_in_its_share(classes: int) -> None:
    sizes = [len(part) for part in parts_of(split(numbered(list(range(classes))), 0.5, 0.3, 0))]
    assert sizes == {3: [1, 1, 1], 10: [5, 3, 2]}[classes]


def test_shares_that_are_whole_stay_whole() -> None:
    parts = parts_of(split(numbered([number % 10 for number in range(500)]), 0.5, 0.3, 7))
    assert [torch.bincount(part.labels).tolist() for part in parts] == [[25] * 10, [15] * 10, [10] * 10]
    assert {part.digest for part in parts} == {"sha256:0"}


def test_the_seed_alone_decides_and_the_global_generator_stays_as_it_was() -> None:
    samples = numbered([number % 3 for number in range(60)])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = numbers(split(samples, 0.5, 0.3, 7).fit)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert numbers(split(samples, 0.5, 0.3, 7).fit) == first
    assert numbers(split(samples, 0.5, 0.3, 8).fit) != first


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_samples_are_too_few(n: int) -> None:
    with pytest.raises(SamplesError) as caught:
        split(numbered([0] * n), 0.5, 0.3, 0)
    assert caught.value.code == "samples.too_few"


@pytest.mark.parametrize("pair", [(0.5, 0.5), (0.9, 0.3), (0.0, 0.3), (0.5, -0.1)])
def test_shares_that_leave_a_part_nothing_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(OptionsError) as caught:
        split(numbered([0] * 9), *pair, 0)
    assert caught.value.code == "options.split"


def test_thin_parts_are_pointed_out() -> None:
    assert thin_parts(split(numbered([0] * 300), 0.5, 0.3, 0)) == ()
    (warning,) = thin_parts(split(numbered([0] * 100), 0.5, 0.3, 0))
    assert warning.code == "samples.few"
    assert "50 to fit, 30 to select, 20 to report" in warning.detail
