"""Charts are honest about their numbers, and stay readable with few and many of them."""

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from app.contract.findings import VerdictLabel
from app.contract.report import Estimate, Outcome, Report
from app.reports import figures, html, rows, sweep
from app.reports.scales import Scale, counting_ticks, round_ticks, round_top, spread

Make = Callable[..., Report]
VOID = {"meta", "wbr", "br", "hr", "img", "input", "link"}


class Nesting(HTMLParser):
    """Collects elements that are not closed in order, ids, and what each picture offers a screen reader."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        if tag == "svg":
            self.pictures.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 11.5, [0, 5, 10]),
        (1, 12, [5, 10]),
        (3, 3, [3]),
        (0, 0.004, [0, 0.002, 0.004]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high, 3) == pytest.approx(ticks)


@pytest.mark.parametrize(("high", "top"), [(4.8, 6), (0, 1), (1, 1), (0.03, 0.03)])
def test_an_axis_ends_on_a_tick(high: float, top: float) -> None:
    assert round_top(high) == pytest.approx(top)


def test_counts_have_logarithmic_ticks() -> None:
    assert counting_ticks(300) == [0, 1, 3, 10, 30, 100, 300]


def test_scales_bend_and_never_leave_the_paper() -> None:
    scale = Scale(0, 99, 0, 100, math.log1p)
    assert [round(scale(value)) for value in (-5, 0, 9, 99, 1000)] == [0, 0, 50, 100, 100]
    assert Scale(2, 2, 0, 100)(2) == 50


def test_labels_are_moved_apart_in_their_order_and_stay_inside() -> None:
    assert spread([50, 51, 10], 15, 0, 60) == [45, 60, 10]
    assert spread([5, 5], 15, 0, 100) == [5, 20]


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize(("classes", "layers"), [(1, 1), (10, 20), (120, 70)])
def test_pages_nest_properly_and_every_picture_has_a_name(
    make: Make, outcome: Outcome, classes: int, layers: int
) -> None:
    page = Nesting(
        html.render(make(outcome=outcome, names=tuple(f"c{k}" for k in range(classes)), layers=layers))
    )
    assert page.faults == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for picture in page.pictures:
        assert picture["role"] == "img"
        assert set((picture["aria-labelledby"] or "").split()) <= set(page.ids)


def test_the_policy_forbids_everything_but_inline_style_and_pictures(repaired: Report) -> None:
    text = html.render(repaired)
    assert "default-src &#39;none&#39;; img-src data:; style-src &#39;unsafe-inline&#39;" in text
    assert "url(" not in text
    assert "@import" not in text


def test_every_picture_is_there_for_a_repair_with_triggered_samples(repaired: Report) -> None:
    text = html.render(repaired)
    keys = (
        "unlearning-accuracy",
        "recovering-loss",
        "recovering-shares",
        "mask-20",
        "tradeoff",
        "evaluated",
        "shares",
    )
    assert [key for key in (*keys, "classes") if f'id="{key}-title"' not in text] == []


def test_without_triggered_samples_there_is_no_evaluation_picture(make: Make) -> None:
    assert sweep.evaluated(make(triggered=False)) is None


def test_evaluation_names_the_point_that_was_chosen_without_it(repaired: Report) -> None:
    figure = sweep.evaluated(repaired)
    assert figure is not None
    assert figure.shows.startswith("Attack success at the marked point: 3.1 %.")


def test_many_classes_are_gathered_and_the_target_is_among_those_shown(make: Make) -> None:
    report = make(names=tuple(f"sign {k}" for k in range(43)))
    shown = str(figures.label_shares(report).picture)
    assert "sign 7<" in shown
    assert "33 others" in shown
    classes = figures.class_accuracies(report)
    assert classes is not None
    assert "33 classes not drawn" in classes.shows


def measuring(report: Report, measured: int) -> Report:
    """The same, but that only so many of its last classes have images in the reporting split."""
    none = Estimate(value=0, low=0, high=1, n=0)
    classes = list(report.metrics.per_class)
    for at, one in enumerate(classes[: len(classes) - measured]):
        accuracy = one.accuracy.model_copy(update={"before": none, "after": none})
        classes[at] = one.model_copy(update={"accuracy": accuracy})
    return report.model_copy(
        update={"metrics": report.metrics.model_copy(update={"per_class": tuple(classes)})}
    )


@pytest.mark.parametrize(
    ("classes", "measured", "said"),
    [
        (100, 60, "The 10 classes that do worst, of 100. 40 classes have no image in the reporting split."),
        (100, 5, "The 5 classes measured. 95 classes have no image in the reporting split."),
        (10, 9, "The 9 classes measured. 1 class has no image in the reporting split."),
        (100, 100, "The 10 classes that do worst, of 100."),
        (10, 10, "All classes."),
    ],
)
def test_a_class_without_images_is_not_among_those_that_do_worst(
    make: Make, classes: int, measured: int, said: str
) -> None:
    names = tuple(f"sign {k}" for k in range(classes))
    report = make(outcome=Outcome.UNCHANGED, label=VerdictLabel.CLEAN, names=names)
    figure = figures.class_accuracies(measuring(report, measured))
    assert figure is not None
    assert figure.shows == said
    assert str(figure.picture).count("no images") == (classes - measured if classes <= 10 else 0)


def test_a_suspected_class_is_drawn_also_without_images_and_counts_as_none_that_does_badly(
    make: Make,
) -> None:
    names = tuple(f"sign {k}" for k in range(100))
    figure = figures.class_accuracies(measuring(make(outcome=Outcome.NOT_REPAIRED, names=names), 60))
    assert figure is not None
    assert figure.shows.startswith("The 9 classes that do worst, of 100.")
    assert "sign 7<" in str(figure.picture)
    assert str(figure.picture).count("no images") == 1


def test_after_a_repair_classes_without_images_are_not_said_to_have_changed(make: Make) -> None:
    report = measuring(make(names=tuple(f"sign {k}" for k in range(100))), 60)
    figure = figures.class_accuracies(report)
    assert figure is not None
    assert "51 classes not drawn" in figure.shows
    assert "40 classes have no image in the reporting split." in figure.shows


def test_model_classes_that_the_samples_do_not_know_are_numbered(make: Make) -> None:
    report = make()
    samples = report.samples.model_copy(update={"class_names": report.samples.class_names[:5]})
    assert "toward class #7" in html.render(report.model_copy(update={"samples": samples}))


def test_a_stage_that_did_not_run_is_said_not_drawn(make: Make) -> None:
    report = make(outcome=Outcome.UNCHANGED, label=VerdictLabel.CLEAN).model_copy(
        update={"recovering": (), "masks": ()}
    )
    text = html.render(report)
    assert "This stage did not run." in text
    assert "No masks were learned." in text
    assert "No operating point was measured." in text


def test_a_single_epoch_still_has_a_picture(repaired: Report) -> None:
    report = repaired.model_copy(update={"unlearning": repaired.unlearning[:1]})
    assert "1 epoch;" in html.render(report)


def test_pruned_masks_are_coloured_up_to_the_threshold_only() -> None:
    drawn = str(rows.histogram("k", "t", "d", [0, 4, 0, 1], pruned_to=0.375))
    red = re.findall(r'width="([\d.]+)" height="[\d.]+" class="bar marked"', drawn)
    assert [float(width) for width in red] == [pytest.approx(30, abs=1)]


def test_a_class_without_images_is_not_given_an_accuracy() -> None:
    nothing = rows.Span(0.0, 0.0, 1.0, 0)
    drawn = str(
        rows.accuracies("k", "t", "d", [rows.Row("cat", marked=False, before=nothing, after=nothing)])
    )
    assert "no images" in drawn
    assert "circle" not in drawn


def test_options_that_differ_are_told_apart(repaired: Report) -> None:
    changed = {row.name: row.value for row in html.option_rows(repaired.options) if row.differs}
    assert changed["architecture"] == "resnet18:width=16"
    assert "prune.accuracy_budget" not in changed


def test_recovered_perturbations_are_shown_with_what_they_did_before_and_after(repaired: Report) -> None:
    text = html.render(repaired)
    assert text.count('src="data:image/png;base64,') == 4
    assert "0.09 of the usual" in text
    assert "after the repair 1.0 %" in text.replace("\u00a0", " ")
    assert "none found" in text


def test_a_relearned_candidate_stands_beside_the_curve_and_has_no_threshold(make: Make) -> None:
    report = make(outcome=Outcome.NOT_REPAIRED)
    relearned = len(report.repair.candidates) - 1
    report = report.model_copy(
        update={"repair": report.repair.model_copy(update={"best_candidate": relearned})}
    )
    figure = sweep.tradeoff(report)
    assert figure is not None
    assert "rest relearned" in figure.shows
    page = html.render(report)
    assert "Relearning came nearest" in page
    assert "prune, relearn" in page


def test_a_page_says_what_the_selecting_and_the_reporting_images_did_for_a_repair_that_was_taught_again(
    make: Make,
) -> None:
    once = make(outcome=Outcome.NOT_REPAIRED)
    *others, relearned = once.repair.candidates
    candidates = (*others, relearned.model_copy(update={"taught_again": True, "share": 0.9}))
    repair = once.repair.model_copy(update={"candidates": candidates, "best_candidate": len(others)})
    page = html.render(once.model_copy(update={"repair": repair}))
    assert (
        "Relearning, 90.0 % of the way (with the selecting images too, once they had chosen) came nearest"
        in page
    )
    for said in (
        "prune, relearn<small>90.0 % of the way</small><small>taught again</small>",
        "Taught again: once they had chosen",
        "That is its accuracy before the selecting images taught it as well.",
        "150 chose the operating point and then taught as well, 100 reported",
        "Perturbed, they also said whether evidence is left.",
    ):
        assert said in page
        assert said not in html.render(once)
    assert Nesting(page).faults == []
