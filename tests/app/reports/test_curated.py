"""What the summary of a curation owes its reader."""

import json

import jsonschema
import pytest

from app.contract.curation import Chosen, Curation, Guess, Pool
from app.contract.problem import Problem
from app.contract.report import Report
from app.errors import ExitCode
from app.reports import as_json, curated
from app.reports.exit_code import exit_code
from app.reports.summary import summary
from tests.app.reports.test_renderers import HOSTILE


def build(
    report: Report, *said: int, classes: int = 10, name: str = "a.png", guessed: bool = True
) -> Curation:
    return Curation(
        model=report.model.model_copy(update={"num_classes": classes}),
        pool=Pool(name=f"of {name}", digest=report.model.digest, n=500),
        strategy="energy",
        budget=len(said),
        seed=0,
        guess=Guess(by="certainty", tried={"cifar10": 0.4}) if guessed else None,
        chosen=tuple(Chosen(name=name, energy=-3.0, margin=-0.5, said=one) for one in said),
        environment=report.environment,
        timings={},
        warnings=(Problem(code="a", detail=f"Of {name}.", remedy="Look."),),
        reproduce="sanitizer curate",
    )


def test_it_says_that_a_person_must_label(repaired: Report) -> None:
    text = summary(build(repaired, 1, 2))
    assert "2 of 500 images" in text
    assert "A person must label each of them." in text
    assert "the model is what is in doubt" in text


@pytest.mark.parametrize(
    ("said", "classes", "told"),
    [
        ((0, 1), 2, "2 of its 2 classes of them."),
        ((1, 1), 2, "1 of its 2 classes of them; of none it says #0."),
        ((0, 3, 5, 5), 10, "3 of its 10 classes of them; of none it says #1–#2, #4, #6–#9."),
        ((0,), 200, "1 of its 200 classes of them; of none it says #1–#199."),
    ],
)
def test_it_says_which_classes_the_model_never_gave(
    repaired: Report, said: tuple[int, ...], classes: int, told: str
) -> None:
    curation = build(repaired, *said, classes=classes)
    assert curated.classes(curation) == f"The model says {told}"
    assert told in summary(curation)


def test_it_shows_the_first_and_all_warnings(repaired: Report) -> None:
    text = summary(build(repaired, *[3] * 40))
    assert text.count("class #3") == curated.SHOWN
    assert "warning: Of a.png. Look." in text


@pytest.mark.parametrize(("guessed", "how"), [(True, "guessed without labels"), (False, "named by the user")])
def test_it_says_where_the_normalisation_comes_from(repaired: Report, how: str, *, guessed: bool) -> None:
    assert f"Normalisation: cifar10, {how}." in summary(build(repaired, 1, guessed=guessed))


def test_a_choice_is_no_finding(repaired: Report) -> None:
    assert exit_code(build(repaired, 7, 7, 7)) is ExitCode.OK


def test_foreign_names_stay_text(repaired: Report) -> None:
    curation = build(repaired, 1, name=HOSTILE)
    assert not any("\u202e" in shown for shown in (summary(curation), as_json.render(curation)))


def test_json_follows_the_schema_and_comes_back_as_what_it_was(repaired: Report) -> None:
    curation = build(repaired, 1, 2)
    text = as_json.render(curation)
    jsonschema.validate(json.loads(text), Curation.model_json_schema())
    assert Curation.model_validate_json(text) == curation
