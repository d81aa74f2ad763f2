"""The smallest step before the last layer, on layers whose geometry is known."""

import numpy as np
import pytest

from worker.detectors.latent_shortcut import _relative, _shortcut, relative_shortcuts

CORNERS = np.eye(5)


def test_between_corners_every_class_is_equally_far() -> None:
    """Features 4 along their own axis: the step into another class is ‖(-2, 2)‖ for one origin, more for all."""
    features = 4 * np.repeat(CORNERS, 20, 0)
    assert relative_shortcuts(CORNERS, np.zeros(5), features) == pytest.approx([1] * 5)


def test_the_step_is_the_smallest_that_satisfies_every_other_class() -> None:
    """All images in class 0 with a lead of 6 over class 1 and 2; w1 - w0 = (-1, 1, 0), w1 - w2 = (0, 1, -1)."""
    features = np.tile([6.0, 0.0, 0.0], (10, 1))
    logits = features @ np.eye(3).T
    assert _shortcut(np.eye(3), logits, 1) == pytest.approx(np.hypot(3, 3))
    assert _shortcut(np.eye(3), logits, 0) == 0, "nothing is elsewhere"


def test_a_class_with_a_long_row_is_nearer() -> None:
    weight = CORNERS.copy()
    weight[2, 2] = 10
    sizes = relative_shortcuts(weight, np.zeros(5), 4 * np.repeat(CORNERS[[0, 1, 3, 4]], 20, 0))
    assert int(np.argmin(sizes)) == 2
    assert sizes[2] < 0.5


def test_where_no_step_leads_there_is_none() -> None:
    """A class whose row lies between those of others is never the largest, however far one goes."""
    weight = np.vstack([CORNERS, CORNERS[:2].mean(0)])
    bias = np.append(np.zeros(5), -1.0)
    sizes = relative_shortcuts(weight, bias, 4 * np.repeat(CORNERS, 20, 0))
    assert sizes[5] == np.inf
    assert sizes[:5] == pytest.approx([1] * 5, rel=0.2)


def test_beside_ways_that_do_not_exist_a_way_says_nothing() -> None:
    assert _relative(3.0, np.inf) == _relative(np.inf, np.inf) == 1.0
    assert _relative(3.0, 6.0) == 0.5


def test_a_tenth_of_the_images_may_stay() -> None:
    few_far = np.vstack([np.tile([1.0, 0, 0], (95, 1)), np.tile([100.0, 0, 0], (5, 1))])
    assert _shortcut(np.eye(3), few_far, 1) == pytest.approx(np.hypot(0.5, 0.5))
