"""Who teaches a repair, and how far it goes, before anything is taught."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from app.contract.options import RelearnOptions, SanitizeOptions
from tests.worker.pipelines.test_verify import Brightness, brighter, greys
from worker.classifier import Classifier
from worker.device import Placement
from worker.pipelines.ladder import LEAST_HELD, ladder, lengths
from worker.repair.gate import WHOLE, Length
from worker.repair.operating_point import Way
from worker.samples.interface import CleanSplit


def way(reporting: int, **relearn: Any) -> Way | None:
    """Of a suspect with one accused class, into which no reporting image belongs."""
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(nn.Sequential(Brightness()), 2, still, still + 1, Placement(torch.device("cpu")))
    parts = CleanSplit(greys(0, 0), greys(0), greys(*[0] * reporting))
    loaded: Any = SimpleNamespace(suspect=suspect, parts=parts, model=None)
    examined: Any = SimpleNamespace(
        aims=(1,), accused=lambda _: (brighter(0.4),), followers=lambda *_: (), expressed=lambda _: True
    )
    options = SanitizeOptions(relearn=RelearnOptions(**relearn))
    climb = ladder(loaded, examined, options).relearn
    return climb((), "recovered") if climb else None


@pytest.mark.parametrize(("reporting", "teach"), [(LEAST_HELD - 1, False), (LEAST_HELD, True)])
def test_those_who_select_teach_where_enough_are_left_to_ask(reporting: int, teach: bool) -> None:
    found = way(reporting)
    assert found is not None
    assert (found.given is not None) is teach


def test_without_steps_pruning_is_all_there_is() -> None:
    assert way(LEAST_HELD, steps=0) is None


def test_fewer_layers_come_before_half_the_rate_and_that_before_less_of_the_way() -> None:
    told = RelearnOptions(shares=(1.0, 0.7), slower=0.5, depth=0.5)
    of_half = Length(0.5, 1.0, 0.5), Length(0.5, 0.7, 0.5)
    assert lengths(told) == (WHOLE, Length(depth=0.5), *of_half, Length(0.5, 1.0), Length(0.5, 0.7))
    assert lengths(told.model_copy(update={"depth": 1.0})) == (WHOLE, Length(0.5, 1.0), Length(0.5, 0.7))
    alike = told.model_copy(update={"depth": 1.0, "slower": 1.0})
    assert lengths(alike) == (WHOLE, Length(1.0, 0.7))
    assert lengths(alike.model_copy(update={"shares": (0.7,)})) == (Length(1.0, 0.7),)
