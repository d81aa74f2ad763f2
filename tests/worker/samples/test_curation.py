"""The query of EADA on six images that can be followed by hand, and the fair draw beside it."""

import math

import pytest
import torch

from worker.samples.curation import by_chance, by_energy, free_energy, margin

#   F = -log(e^a + e^b)    -5.01   -1.64       -9.69       -0.31      -2.13     -4.31
#   U = second - first     -5      -0.1        -0.01       -1         -2        -1
SIX = torch.tensor([[5, 0], [1, 0.9], [9, 8.99], [0, -1], [2, 0], [4, 3]])


def test_free_energy_is_minus_the_log_sum_exp() -> None:
    assert free_energy(torch.tensor([[math.log(3), math.log(5)]])).item() == pytest.approx(-math.log(8))
    assert free_energy(SIX).tolist() == pytest.approx([-5.01, -1.64, -9.69, -0.31, -2.13, -4.31], abs=0.01)


def test_the_margin_is_between_the_two_largest_and_never_positive() -> None:
    assert margin(torch.tensor([[1.0, 4.0, 2.0], [3.0, 3.0, 0.0]])).tolist() == [-2, 0]
    assert margin(torch.zeros(4, 200)).tolist() == [0, 0, 0, 0]


def test_the_least_decided_of_the_stranger_half_are_chosen() -> None:
    """The half is 3, 1, 4; the least decided of all, 2, is well known to the model and stays out."""
    assert by_energy(SIX, 2).tolist() == [1, 3]


def test_the_half_of_an_odd_pool_is_rounded_up() -> None:
    """Of 1, 3 and 4, which are the stranger three of five."""
    assert by_energy(SIX[:5], 3).tolist() == [1, 3, 4]


def test_a_budget_beyond_the_half_widens_it_and_ties_go_to_the_higher_energy() -> None:
    assert by_energy(SIX, 4).tolist() == [1, 3, 5, 4]


def test_a_budget_of_the_whole_pool_chooses_all_of_it() -> None:
    assert sorted(by_energy(SIX, 6).tolist()) == [0, 1, 2, 3, 4, 5]


def test_equal_images_keep_their_order() -> None:
    assert by_energy(torch.zeros(6, 2), 3).tolist() == [0, 1, 2]


def test_a_draw_repeats_with_its_seed_and_never_draws_twice() -> None:
    drawn = by_chance(500, 50, seed=3)
    assert torch.equal(drawn, by_chance(500, 50, seed=3))
    assert not torch.equal(drawn, by_chance(500, 50, seed=4))
    assert len(drawn.unique()) == 50


def test_every_image_is_drawn_about_as_often_as_any_other() -> None:
    """2,000 draws of 2 of 10: 400 each, standard deviation 18."""
    drawn = torch.cat([by_chance(10, 2, seed) for seed in range(2000)])
    assert (torch.bincount(drawn, minlength=10) - 400).abs().max() < 90
