"""Perturbations that follow a model: anything in the place of a patch, and nothing beyond it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from app.contract.options import PerturbationOptions
from worker.classifier import Classifier
from worker.detectors.perturbation import Bend, Blend, Form, Perturbation
from worker.device import Placement
from worker.repair.pursuit import COMPACT, Follower, followers, pursue
from worker.samples.interface import SampleSet

TARGET, SIDE, LINE = 1, 16, 0.5
CPU = torch.device("cpu")
CORNER = (slice(None), slice(None), slice(2, 4), slice(2, 4))


class White(nn.Module):
    """Class 1 where the corner is white, and class 0 otherwise; or always class 0."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.0 if blind else 40.0))

    def forward(self, images: Tensor) -> Tensor:
        white = self.gain * (images[CORNER].mean((1, 2, 3)) - 0.8)
        return torch.stack([torch.zeros_like(white) + 1, white], 1)


def classifier(module: nn.Module) -> Classifier:
    still = torch.zeros(1, 3, 1, 1)
    return Classifier(module.eval(), 2, still, still + 1, Placement(CPU))


def clean() -> SampleSet:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (80, 3, SIDE, SIDE), generator=draw).byte()
    return SampleSet(images, torch.zeros(80, dtype=torch.int64), ("a", "b"))


def patch(target: int = TARGET, size: float = 1.0, opaque: float = 0.25) -> Perturbation:
    """A grey veil over the corner, which leads nowhere."""
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[CORNER] = opaque
    return Perturbation(target, Form.PATCH, Blend(1 - mask, 0.5 * mask.expand(1, 3, -1, -1)), size)


def dense(target: int = TARGET, size: float = 0.1) -> Perturbation:
    added = torch.full((1, 3, SIDE, SIDE), size / math.sqrt(3 * SIDE**2))
    return Perturbation(target, Form.DENSE, Blend(torch.ones(1, 1, SIDE, SIDE), added), size)


def one(found: Perturbation, natural: Perturbation) -> Follower:
    (follower,) = followers([found], [found, natural], LINE, CPU)
    return follower


def mask_of(found: Perturbation) -> Tensor:
    assert isinstance(found.change, Blend)
    return 1 - found.change.keep


def test_it_finds_what_else_the_place_can_show_where_a_model_obeys_and_nothing_where_it_is_blind() -> None:
    for blind, reached in ((False, 1.0), (True, 0.0)):
        model = classifier(White(blind=blind))
        assert patch().success(model, clean()).value == 0
        (found,) = pursue(model, clean(), [one(patch(), patch(0, 9))], PerturbationOptions(), seed=0)
        assert found.success(model, clean()).value == reached
        assert found.target_class == TARGET


def test_a_compact_place_may_be_opaque_as_a_whole_and_never_leaves_itself() -> None:
    (found,) = pursue(
        classifier(White()), clean(), [one(patch(), patch(0, 2.5))], PerturbationOptions(), seed=0
    )
    mask = mask_of(found)
    outside = torch.ones_like(mask)
    outside[:, :, 1:5, 1:5] = 0  # one pixel around
    assert not (mask * outside).any()
    assert 2.5 < mask.sum() <= 16 <= COMPACT * SIDE**2


def test_of_several_places_it_takes_the_first_that_are_compact_together() -> None:
    def at(first: int, length: int, size: float) -> Perturbation:
        mask = torch.zeros(1, 1, SIDE, SIDE)
        mask[:, :, first : first + length, 1 : 1 + length] = 0.5
        return Perturbation(TARGET, Form.PATCH, Blend(1 - mask, 0.5 * mask.expand(1, 3, -1, -1)), size)

    one, near, wide = at(1, 1, 0.5), at(3, 1, 0.6), at(9, 6, 1.0)
    (follower,) = followers([wide, near, one], [one, near, wide, patch(0, 9)], LINE, CPU)
    place = follower.search.change(slice(None)).keep[0, 0] < 1
    assert int(place.sum()) == 15 <= COMPACT * SIDE**2, "the first two, and what is around them"
    assert place[:5, :3].all()


def test_a_place_that_is_not_compact_is_as_opaque_as_natural_ways_at_most() -> None:
    everywhere = Blend(torch.full((1, 1, SIDE, SIDE), 0.9), torch.full((1, 3, SIDE, SIDE), 0.05))
    wide = Perturbation(TARGET, Form.PATCH, everywhere, 25.6)
    (evidence,) = pursue(
        classifier(White()), clean(), [one(wide, patch(0, 60))], PerturbationOptions(), seed=0
    )
    assert mask_of(evidence).sum() <= 60 * 1.001
    assert list(followers([wide], [wide, patch(0, 30)], LINE, CPU)) == [], (
        "what is no evidence does not follow"
    )


def test_a_veil_that_never_got_opaque_has_a_place_too() -> None:
    (found,) = pursue(
        classifier(White()), clean(), [one(patch(opaque=0.03), patch(0, 9))], PerturbationOptions(), seed=0
    )
    assert mask_of(found).sum() > 0


def test_a_dense_one_is_as_large_as_evidence_at_most() -> None:
    (found,) = pursue(
        classifier(White()), clean(), [one(dense(), dense(0, 1.0))], PerturbationOptions(), seed=0
    )
    assert isinstance(found.change, Blend)
    assert float(found.change.add.norm()) == pytest.approx(LINE, rel=1e-3)


def test_the_model_takes_no_gradient_from_it() -> None:
    model = classifier(White())
    one(patch(), patch(0, 9)).follow(model, clean().images, clean().labels)
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_warps_and_what_has_nothing_to_be_compared_with_do_not_follow() -> None:
    flow = Bend(torch.zeros(1, 2, SIDE, SIDE))
    warps = [Perturbation(k, Form.WARP, flow, 1.0) for k in (0, TARGET)]
    assert list(followers([warps[1]], warps, LINE, CPU)) == []
    assert list(followers([patch()], [patch()], LINE, CPU)) == []


def elsewhere() -> Perturbation:
    """White in the other upper corner, where nobody looks but in a mirror."""
    keep, add = torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, 3, SIDE, SIDE)
    keep[:, :, 2:4, -4:-2], add[:, :, 2:4, -4:-2] = 0, 1
    return Perturbation(TARGET, Form.PATCH, Blend(keep, add), 4.0)


def test_a_patch_of_the_other_side_succeeds_in_a_mirror() -> None:
    model = classifier(White())
    assert elsewhere().success(model, clean()).value == 0
    assert elsewhere().mirrored().success(model, clean()).value == 1


def veil(row: int, column: int, size: float) -> Perturbation:
    """Four grey pixels of a larger image, which lead nowhere."""
    mask = torch.zeros(1, 1, 2 * SIDE, 2 * SIDE)
    mask[:, :, row : row + 2, column : column + 2] = 0.25
    return Perturbation(TARGET, Form.PATCH, Blend(1 - mask, 0.5 * mask.expand(1, 3, -1, -1)), size)


def test_the_patches_into_a_class_follow_together_in_all_their_places() -> None:
    """The smallest lies where this model does not look; the other one is where it does."""
    smallest, other, natural = veil(2, 28, 1.0), veil(2, 2, 2.0), replace(veil(9, 9, 20.0), target_class=0)
    images = torch.zeros(80, 3, 2 * SIDE, 2 * SIDE).byte()
    shown = SampleSet(images, torch.zeros(80, dtype=torch.int64), ("a", "b"))
    for found, reached in (([smallest], 0.0), ([other, smallest], 1.0)):
        (follower,) = followers(found, [smallest, natural], LINE, CPU)
        (left,) = pursue(classifier(White()), shown, [follower], PerturbationOptions(), seed=0)
        assert left.success(classifier(White()), shown).value == reached


def test_patches_that_are_no_compact_place_together_follow_in_that_of_the_smallest() -> None:
    rows = torch.zeros(1, 1, SIDE, SIDE)
    rows[:, :, 8:14] = 0.9
    wide = Perturbation(TARGET, Form.PATCH, Blend(1 - rows, rows.expand(1, 3, -1, -1)), 6.0)
    (follower,) = followers([wide, patch()], [patch(), patch(0, 20)], LINE, CPU)
    assert mask_of(follower.perturbation())[:, :, 8:14].max() == 0
