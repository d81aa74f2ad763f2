"""What every rendering of a report owes its reader."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import jsonschema
import pytest

from app.contract.findings import VerdictLabel
from app.contract.report import Outcome, Report
from app.reports import as_json, html, markdown, wording
from app.reports.numerals import duration

Make = Callable[..., Report]
HOSTILE = "<script>alert(1)</script>\"'\u202egnp.exe"
OUTCOMES = [
    (Outcome.REPAIRED, VerdictLabel.SUSPICIOUS),
    (Outcome.NOT_REPAIRED, VerdictLabel.SUSPICIOUS),
    (Outcome.UNCHANGED, VerdictLabel.INCONCLUSIVE),
    (Outcome.UNCHANGED, VerdictLabel.CLEAN),
]


class Page(HTMLParser):
    """Collects tags, and whatever would make a browser fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            outside = name in ("src", "srcset", "data", "action") or name.endswith("href")
            if outside and not (value or "").startswith(("#", "data:image/png;base64,")):
                self.fetched.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.fetched.append(f"{tag} {name}={value}")


@pytest.mark.parametrize(("outcome", "label"), OUTCOMES)
@pytest.mark.parametrize("triggered", [True, False])
def test_every_outcome_is_a_page_that_stands_alone(
    make: Make, outcome: Outcome, label: VerdictLabel, triggered: bool
) -> None:
    page = Page(html.render(make(outcome=outcome, label=label, triggered=triggered)))
    assert page.fetched == []
    assert not {"script", "iframe", "object", "embed", "link", "base"} & set(page.tags)
    assert "svg" in page.tags


@pytest.mark.parametrize(("classes", "layers"), [(2, 1), (43, 20), (120, 70)])
def test_few_and_many_classes_and_layers_render(make: Make, classes: int, layers: int) -> None:
    names = tuple(f"class {k}" for k in range(classes))
    text = html.render(make(names=names, layers=layers))
    assert "svg" in Page(text).tags
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_the_headline_numbers_are_on_the_page(repaired: Report) -> None:
    text = html.render(repaired)
    accuracy = repaired.metrics.clean_accuracy
    for number in (accuracy.before.value, accuracy.after.value):
        assert f"{number * 100:.1f}" in text
    assert str(repaired.repair.pruned) in text
    assert repaired.model.digest.removeprefix("sha256:") in re.sub(r"<wbr/?>|\s", "", text)


def test_foreign_names_stay_text(make: Make) -> None:
    report = make(model_name=HOSTILE, names=(HOSTILE, "b", "c"))
    for text in (html.render(report), markdown.render(report), wording.summary(report)):
        assert "<script>" not in html.render(report)
        assert "\u202e" not in text


def test_equal_reports_give_equal_bytes(repaired: Report) -> None:
    for render in (html.render, as_json.render, markdown.render, wording.summary):
        assert render(repaired) == render(repaired.model_copy())


def test_json_follows_the_schema_and_comes_back(repaired: Report) -> None:
    text = as_json.render(repaired)
    jsonschema.validate(json.loads(text), Report.model_json_schema())
    assert Report.model_validate_json(text) == repaired


def test_what_is_not_repaired_says_so_plainly(make: Make) -> None:
    report = make(outcome=Outcome.NOT_REPAIRED, label=VerdictLabel.SUSPICIOUS)
    for text in (html.render(report), markdown.render(report), wording.summary(report)):
        assert "not repaired" in text.lower()
        assert "original" in text.lower()


def test_a_report_of_only_looking_does_not_speak_of_a_returned_model(make: Make) -> None:
    report = make(kind="detect", outcome=Outcome.UNCHANGED)
    for text in (html.render(report), markdown.render(report), wording.summary(report)):
        assert "only looked at" in text
        assert "returned" not in text


def test_an_all_to_all_backdoor_is_not_told_as_many_targets(repaired: Report) -> None:
    verdict = repaired.verdict.model_copy(update={"target_classes": (0, 1, 2), "all_to_all": True})
    leads = repaired.perturbations[0].model_copy(update={"target_class": None})
    report = repaired.model_copy(update={"verdict": verdict, "perturbations": (leads,)})
    assert Report.model_validate_json(as_json.render(report)) == report
    assert "toward another class from each" in wording.headline(report)
    for text in (html.render(report), markdown.render(report)):
        assert "toward another class from each" in text
    assert f"{leads.form} into other classes" in html.render(report)


def test_the_time_of_the_whole_job_is_the_sum_of_its_stages(repaired: Report) -> None:
    whole = duration(sum(repaired.timings.values()) / 2)  # the total is one of them
    assert f"<dt>together</dt><dd>{whole}</dd>" in html.render(repaired)
    assert f"seed 0 · {whole}" in markdown.render(repaired)


def test_nothing_measured_with_triggers_is_said_to_be_unmeasured(make: Make) -> None:
    report = make(triggered=False)
    assert "no triggered samples were given" in wording.summary(report).lower()
    assert "no triggered samples were given" in html.render(report).lower()
