"""What every rendering of a screening owes its reader."""

import base64
import json
from typing import get_args

import jsonschema
import pytest

from app.contract.confinement import Confinement, Layer, LayerName
from app.contract.options import Detector
from app.contract.report import Report
from app.contract.result import RESULT, confined
from app.contract.screening import Decision, Scored, Screening, Suspects
from app.errors import ExitCode
from app.reports import as_json, html, markdown, screened
from app.reports.exit_code import exit_code
from app.reports.summary import summary
from tests.app.conftest import CIFAR, PIXEL
from tests.app.reports.test_renderers import HOSTILE, Page

SHEET = base64.b64decode(PIXEL)
FEW = Decision(rate=0.01, bound=None, flagged=0, expected_false_alarms=0, chance=1)


def decision(flagged: int, chance: float) -> Decision:
    return Decision(rate=0.05, bound=4.0, flagged=flagged, expected_false_alarms=10, chance=chance)


def build(report: Report, *decisions: Decision, name: str = "a.png", n: int = 200) -> Screening:
    scored = [Scored(name=name, said=7, score=9.0 - place / 10, p_value=0.01) for place in range(n)]
    return Screening(
        model=report.model,
        samples=report.samples,
        suspects=Suspects(name=f"of {name}", digest=report.model.digest, n=n),
        decisions=decisions or (FEW, decision(50, 1e-9)),
        scored=tuple(scored),
        forwards=7,
        calibrated_on=90,
        unlearning=report.unlearning,
        options=report.options,
        seed=0,
        environment=report.environment,
        timings=report.timings,
        skipped=report.skipped,
        warnings=report.warnings,
        reproduce="sanitizer screen",
    )


@pytest.mark.parametrize("sheet", [SHEET, b""])
def test_it_is_a_page_that_stands_alone(repaired: Report, sheet: bytes) -> None:
    text = html.render_screening(build(repaired), sheet)
    page = Page(text)
    assert page.fetched == []
    assert not {"script", "iframe", "object", "embed", "link", "base"} & set(page.tags)
    assert (f"data:image/png;base64,{PIXEL}" in text) is bool(sheet)
    assert text.count('<th scope="row" class="name">') == html.LISTED
    assert CIFAR[7] in text


def test_no_rendering_speaks_of_a_repair_or_a_verdict(repaired: Report) -> None:
    screening = build(repaired)
    for text in (
        html.render_screening(screening, SHEET),
        markdown.render_screening(screening),
        summary(screening),
    ):
        body = text.partition("<main")[2].partition("Options that differ")[0] or text
        assert "50 of 200" in body
        assert not any(
            word in body.lower() for word in ("repaired", "verdict", "returned", "operating point")
        )


@pytest.mark.parametrize("detector", get_args(Detector))
def test_every_rendering_says_what_a_score_of_its_detector_does_not_see(
    repaired: Report, detector: Detector
) -> None:
    screening = build(repaired).model_copy(update={"detector": detector})
    for text in (
        html.render_screening(screening, SHEET),
        markdown.render_screening(screening),
        summary(screening),
    ):
        assert screened.LIMITS[detector].partition(". ")[2] in text


@pytest.mark.parametrize(
    ("decisions", "said", "code"),
    [
        ((FEW, decision(50, 1e-9)), "More inputs are flagged than chance explains", ExitCode.FINDINGS),
        ((FEW, decision(9, 0.6)), "No more inputs are flagged than chance explains", ExitCode.OK),
        ((FEW, FEW), "Nothing is flagged: 90 clean images are too few", ExitCode.OK),
    ],
)
def test_the_headline_and_the_exit_code_tell_the_same(
    repaired: Report, decisions: tuple[Decision, ...], said: str, code: ExitCode
) -> None:
    screening = build(repaired, *decisions)
    assert screened.headline(screening).startswith(said)
    assert markdown.render_screening(screening).startswith(f"### {said}")
    assert exit_code(screening) is code


def test_an_input_is_flagged_at_the_strictest_rate(repaired: Report) -> None:
    strict = Decision(rate=0.01, bound=8.95, flagged=1, expected_false_alarms=2, chance=1)
    screening = build(repaired, strict, decision(50, 1))
    told = [screened.flagged_at(screening, screening.scored[place]) for place in (0, 1, 199)]
    assert told == ["1.0 %", "5.0 %", ""]


def test_foreign_names_stay_text(repaired: Report) -> None:
    screening = build(repaired, name=HOSTILE)
    page, text = html.render_screening(screening, SHEET), markdown.render_screening(screening)
    assert "<script>" not in page
    assert not any("\u202e" in shown for shown in (page, text, summary(screening), as_json.render(screening)))


def test_json_follows_the_schema_and_comes_back_as_what_it_was(repaired: Report) -> None:
    screening = build(repaired)
    text = as_json.render(screening)
    jsonschema.validate(json.loads(text), Screening.model_json_schema())
    assert RESULT.validate_json(text) == screening
    assert RESULT.validate_json(as_json.render(repaired)) == repaired


def test_it_names_its_confinement(repaired: Report) -> None:
    confinement = Confinement(layers=(Layer(name=LayerName.SESSION, enforced=True, detail="alone"),))
    screening = confined(build(repaired), confinement)
    assert screening.environment.confinement == confinement
    assert f"confinement {confinement.level.value}" in markdown.render_screening(screening)
    assert "alone" in html.render_screening(screening, b"")
