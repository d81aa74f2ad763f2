"""Which numbers of a report go into which picture, and the sentence that says what the picture shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.contract.report import ClassAccuracy, Epoch, Estimate, LayerMasks, Outcome, Report
from app.reports import charts, rows
from app.reports.figure import Figure
from app.reports.numerals import count, number, percent, plural, points
from app.reports.scales import round_top
from app.reports.wording import class_name

SHOWN_CLASSES = 10
AT_MOST = SHOWN_CLASSES + 2  # classes that are all drawn: one row for "2 others" would spare nothing
_NAME = 16  # characters that fit beside a picture


@dataclass(frozen=True, slots=True)
class Stage:
    """The curves of one training stage."""

    name: str
    shows: str
    pictures: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of the mask table."""

    masks: LayerMasks
    picture: Markup
    total: bool


def stages(report: Report) -> tuple[Stage, ...]:
    """Unlearning and recovering, one set of curves each; a stage that did not run has none."""
    return (
        _stage(report, "Unlearning", "unlearning", report.unlearning),
        _stage(report, "Recovering", "recovering", report.recovering),
    )


def _stage(report: Report, name: str, key: str, epochs: tuple[Epoch, ...]) -> Stage:
    if not epochs:
        return Stage(name, "This stage did not run.", ())
    first, last = epochs[0], epochs[-1]
    shows = (
        f"{plural(len(epochs), 'epoch')}; "
        f"held accuracy {percent(first.held_accuracy)} → {percent(last.held_accuracy)}, "
        f"loss {number(first.loss)} → {number(last.loss)}."
    )
    accuracy = charts.curves(
        f"{key}-accuracy",
        f"{name}: accuracy per epoch",
        shows,
        [
            charts.Curve("held", "held", tuple((e.number, e.held_accuracy) for e in epochs)),
            charts.Curve("training", "training", tuple((e.number, e.accuracy) for e in epochs)),
        ],
        charts.Axis("accuracy", 0.0, 1.0, _whole),
        x_name="epoch",
        height=170,
    )
    loss = charts.curves(
        f"{key}-loss",
        f"{name}: loss per epoch",
        shows,
        [charts.Curve("loss", "held", tuple((e.number, e.loss) for e in epochs))],
        charts.Axis("loss", 0.0, round_top(max(e.loss for e in epochs)), number),
        x_name="epoch",
        height=130,
    )
    return Stage(name, shows, (accuracy, loss, _share_curves(report, name, key, epochs)))


def _share_curves(report: Report, name: str, key: str, epochs: tuple[Epoch, ...]) -> Markup:
    watched = _watched(report)
    css = "target" if report.verdict.target_classes else "watched"
    lines = [
        charts.Curve(
            class_name(report, index, 9), css, tuple((e.number, e.label_shares[index]) for e in epochs)
        )
        for index in watched
    ]
    said = "; ".join(f"{class_name(report, i)} {percent(epochs[-1].label_shares[i])}" for i in watched)
    return charts.curves(
        f"{key}-shares",
        f"{name}: share of predictions per epoch",
        f"After the last epoch: {said}.",
        lines,
        charts.Axis("share of predictions", 0.0, 1.0, _whole),
        x_name="epoch",
        height=150,
    )


def _watched(report: Report) -> tuple[int, ...]:
    """The suspected classes, or the one that unlearning ended on."""
    known = range(len(report.label_shares.unlearned))
    suspected = tuple(index for index in report.verdict.target_classes if index in known)
    return suspected[:3] or (max(known, key=lambda index: report.label_shares.unlearned[index]),)


def watched_names(report: Report) -> str:
    """The classes whose share the curves follow."""
    return ", ".join(class_name(report, index) for index in _watched(report))


def layers(report: Report) -> tuple[Layer, ...]:
    """One histogram per layer; above them all layers together, if there are several."""
    masks = report.masks
    several = len(masks) > 1
    if several:
        bins = tuple(sum(column) for column in zip(*(layer.histogram for layer in masks), strict=True))
        total = LayerMasks(
            parameter="all layers",
            filters=sum(layer.filters for layer in masks),
            pruned=sum(layer.pruned for layer in masks),
            histogram=bins,
        )
        masks = (total, *masks)
    return tuple(
        Layer(layer, _layer(report, at, layer), total=several and at == 0) for at, layer in enumerate(masks)
    )


def _layer(report: Report, at: int, layer: LayerMasks) -> Markup:
    return rows.histogram(
        f"mask-{at}",
        f"Filter masks of {layer.parameter}",
        f"{layer.pruned} of {layer.filters} pruned; counts from 0 to 1: {' '.join(map(str, layer.histogram))}",
        layer.histogram,
        pruned_to=report.repair.threshold if report.outcome is Outcome.REPAIRED else None,
    )


def label_shares(report: Report) -> Figure:
    """Where predictions go before, after unlearning, and after unlearning the repaired model."""
    shares = report.label_shares
    stacks = [shares.suspect, shares.unlearned]
    panels = ["suspect", "unlearned"]
    if shares.repaired_unlearned is not None:
        stacks.append(shares.repaired_unlearned)
        panels.append("repaired, unlearned")
    columns = list(zip(*stacks, strict=True))
    order = _leading([max(column) - min(column) for column in columns], report.verdict.target_classes)
    drawn = [
        rows.Row(class_name(report, index, _NAME), index in report.verdict.target_classes, columns[index])
        for index in order
    ]
    rest = [column for index, column in enumerate(columns) if index not in order]
    if rest:
        drawn.append(
            rows.Row(f"{len(rest)} others", marked=False, shares=tuple(map(sum, zip(*rest, strict=True))))
        )
    top = _watched(report)[0]
    shows = f"Share of predictions on class {class_name(report, top)}: " + ", ".join(
        f"{panel} {percent(stack[top])}" for panel, stack in zip(panels, stacks, strict=True)
    )
    shows += "."
    return Figure(
        shows,
        rows.shares(
            "shares", "Share of predictions per class", shows, drawn, panels, even=1 / max(len(columns), 1)
        ),
    )


def class_accuracies(report: Report) -> Figure | None:
    """Accuracy per class, before and after where the model changed."""
    classes = _comparable(report)
    if not classes:
        return None
    repaired = report.outcome is Outcome.REPAIRED
    # Where nothing changed, the classes that do worst are the ones to look at.
    weight = [abs(_gain(c)) if repaired else 1 - c.accuracy.before.value for c in classes]
    order = _leading(weight, [at for at, c in enumerate(classes) if c.index in report.verdict.target_classes])
    drawn = []
    for at in order:
        one = classes[at]
        drawn.append(
            rows.Row(
                class_name(report, one.index, _NAME),
                one.index in report.verdict.target_classes,
                before=_span(one.accuracy.before),
                after=_span(one.accuracy.after) if repaired else None,
            )
        )
    measured = sum(row.before is not None and row.before.n > 0 for row in drawn)
    shows = _class_sentence(report, measured, [w for at, w in enumerate(weight) if at not in order])
    shows += _missing_sentence(report)
    return Figure(shows, rows.accuracies("classes", "Accuracy per class", shows, drawn))


def _comparable(report: Report) -> tuple[ClassAccuracy, ...]:
    """All classes where they fit into one picture; of more, those that were measured, and the suspected ones."""
    classes = report.metrics.per_class
    if len(classes) <= AT_MOST:
        return classes
    suspected = report.verdict.target_classes
    return tuple(one for one in classes if one.accuracy.before.n or one.index in suspected)


def worst_class(report: Report) -> str:
    """The class that lost most, in words; nothing where no class was measured."""
    measured = [one for one in report.metrics.per_class if one.accuracy.before.n]
    if not measured:
        return ""
    worst = min(measured, key=_gain)
    if _gain(worst) >= 0:
        return "none lost accuracy"
    return f"{class_name(report, worst.index)}, {points(_gain(worst))} (n = {count(worst.accuracy.before.n)})"


def _gain(one: ClassAccuracy) -> float:
    return one.accuracy.after.value - one.accuracy.before.value


def _class_sentence(report: Report, drawn: int, rest: Sequence[float]) -> str:
    classes = report.metrics.per_class
    if report.outcome is not Outcome.REPAIRED:
        if rest:
            return f"The {count(drawn)} classes that do worst, of {count(len(classes))}."
        return (
            "All classes." if drawn == len(classes) else f"The {plural(drawn, 'class', 'classes')} measured."
        )
    worst = min(classes, key=_gain)
    said = f"Worst class: {worst_class(report)}." if _gain(worst) < 0 else "No class lost accuracy."
    if rest:
        others = plural(len(rest), "class", "classes")
        said += f" {others} not drawn changed by at most {points(max(rest)).lstrip('+')}."
    return said


def _missing_sentence(report: Report) -> str:
    missing = sum(not one.accuracy.before.n for one in report.metrics.per_class)
    having = plural(missing, "class has", "classes have")
    return f" {having} no image in the reporting split." if missing else ""


def _leading(weight: Sequence[float], always: Sequence[int]) -> list[int]:
    """Up to ten indices in their own order: those that must be there, then those with the largest weight."""
    if len(weight) <= AT_MOST:
        return list(range(len(weight)))
    first = [index for index in always if index < len(weight)][:SHOWN_CLASSES]
    others = sorted((i for i in range(len(weight)) if i not in first), key=lambda i: -weight[i])
    return sorted(first + others[: SHOWN_CLASSES - len(first)])


def _span(estimate: Estimate) -> rows.Span:
    return rows.Span(estimate.value, estimate.low, estimate.high, estimate.n)


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"
