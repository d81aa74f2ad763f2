"""Tables of what the detectors see, failures first.

    python -m benchmarks.detectors.table --witnesses FILE ... --draws FILE ... --screening FILE ... --repairs FILE ...
        [--write docs/detection.md]

Backdoored nets, and clean ones that are not in the shipped null, are judged as the product does. A net of the null is
judged by the others.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from app.contract.findings import Verdict, VerdictLabel
from app.contract.options import EvidenceOptions
from app.contract.report import Estimate
from benchmarks.detectors.null import CALIBRATING, heard, read
from benchmarks.detectors.screening import auroc
from benchmarks.efficacy.table import USUAL, markdown, put, share, target
from worker.detectors import verdict as verdicts
from worker.detectors.null import shipped
from worker.detectors.verdict import TOGETHER, judge
from worker.statistics import proportion

JUDGED = (
    "model",
    "attack",
    "target",
    "verdict",
    "names",
    "false alarms",
    "score",
    "shift",
    "row",
    "size",
    "way",
    "recalled",
    "s",
)
WITNESSES = (verdicts.SHIFT, verdicts.MOVEMENT, verdicts.SIZE, verdicts.SHORTCUT, verdicts.RECALLED)
SUMMARY = ("what", "share (95 %)")
DRAWN = (
    "net",
    "seeds",
    "accused by the first look",
    "size",
    "closely",
    "patch of a second look",
    "accused in the end",
)
SCREENED = (
    "model",
    "attack",
    "seed",
    "detector",
    "AUROC",
    "of hits",
    "found at 1 %",
    "at 5 %",
    "clean flagged at 1 %",
    "at 5 %",
)
EVIDENCE = (VerdictLabel.SUSPICIOUS, VerdictLabel.BACKDOORED)
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """One model with known truth, and what is said of it."""

    line: Line
    verdict: Verdict
    calibrates: bool  # it is one of the null

    @property
    def score(self) -> float:
        """Of all witnesses together; the null is another one for every net of it, so only ranks compare."""
        return next(signal.value for signal in self.verdict.signals if signal.name == TOGETHER)

    @property
    def named(self) -> bool:
        """Whether the first accused class is the true target, or all are where it has none."""
        if self.line["target"] is None:
            return self.verdict.all_to_all
        return self.verdict.target_classes[:1] == (self.line["target"],)

    @property
    def accused(self) -> bool:
        """Whether it would be repaired."""
        return verdicts.shows_evidence(self.verdict)


def judged(line: Line) -> Judged:
    """By the shipped null, without the model itself."""
    others = tuple(net for net in shipped() if net.digest != line["digest"])
    return Judged(line, judge(heard(line), EvidenceOptions(), others), len(others) < len(shipped()))


def witnesses(lines: Iterable[Line]) -> str:
    """A summary, and every model; what went wrong first."""
    models = sorted(
        map(judged, lines), key=lambda m: (m.line["attack"] is None, not _wrong(m), m.line["name"])
    )
    planted = [m for m in models if m.line["attack"]]
    one_target = [m for m in planted if m.line["target"] is not None]
    clean = [m for m in models if not m.line["attack"]]
    checked, null = ([m for m in clean if m.calibrates is of_null] for of_null in (False, True))
    summary = [
        ("all-to-one nets whose target is named first", _share(m.named for m in one_target)),
        ("backdoored nets called backdoored", _share(_is(m, VerdictLabel.BACKDOORED) for m in planted)),
        ("backdoored nets called backdoored or suspicious", _share(m.accused for m in planted)),
        ("backdoored nets called clean", _share(_is(m, VerdictLabel.CLEAN) for m in planted)),
        (
            "clean nets outside the null called backdoored",
            _share(_is(m, VerdictLabel.BACKDOORED) for m in checked),
        ),
        ("clean nets outside the null called backdoored or suspicious", _share(m.accused for m in checked)),
        ("clean nets outside the null called clean", _share(_is(m, VerdictLabel.CLEAN) for m in checked)),
        (
            "clean nets of the null, each judged by the others, called backdoored or suspicious",
            _share(m.accused for m in null),
        ),
        (
            "AUROC of the score, backdoored nets and all clean ones",
            f"{_auroc(planted, [*checked, *null]):.3f}",
        ),
    ]
    return markdown(SUMMARY, summary) + "\n" + markdown(JUDGED, map(_cells, models))


def whole(
    heard_of: Iterable[Path], drawn: Iterable[Path], screened: Iterable[Path], repairs: Iterable[Path]
) -> str:
    """All tables of the page."""
    scored = [*read(screened), *by_repair(read(repairs))]
    return "\n".join((witnesses(read([*heard_of, CALIBRATING])), draws(read(drawn)), screening(scored)))


def draws(lines: Iterable[Line]) -> str:
    """How often each net is accused over draws of images, and all clean and all backdoored ones."""
    lines = list(lines)
    rows = []
    for kind, planted in (("all clean nets", False), ("all backdoored nets", True)):
        mine = [line for line in lines if bool(line["attack"]) is planted]
        models = dict.fromkeys(line["model"] for line in mine)
        rows += [_drawn(name, [line for line in mine if line["model"] == name]) for name in models]
        rows += [_drawn(kind, mine)] if mine else []
    return markdown(DRAWN, rows)


def _drawn(name: str, lines: list[Line]) -> tuple[str, ...]:
    accused = [line for line in lines if line["first"] in EVIDENCE]
    looks = [[f"{line[look]:.2f}" for line in accused if line[look]] for look in ("size", "closely")]
    first, after = (_share(line[look] in EVIDENCE for line in lines) for look in ("first", "label"))
    looks.append([f"{line['again']:.2f}" for line in lines if line.get("again")])
    return (name, str(len(lines)), first, *(", ".join(look) or "–" for look in looks), after)


def by_repair(lines: Iterable[Line]) -> list[Line]:
    """What the harness of efficacy says of the screening that its repairs make."""
    return [
        {
            **{name: line[name] for name in ("model", "attack", "seed")},
            "detector": "repair",
            **line["screened"],
        }
        for line in lines
        if line.get("screened") and line["n_clean"] in USUAL
    ]


def screening(lines: Iterable[Line]) -> str:
    """Every model and every way to score, the worst first; and means."""
    rows = sorted(lines, key=lambda line: (line["detector"], line["auroc"]))
    ways = dict.fromkeys(line["detector"] for line in rows)
    means = [
        ("mean", f"{len({line['model'] for line in mine})} models", "–", way, *_rates(_means(mine)))
        for way in ways
        if (mine := [line for line in rows if line["detector"] == way])
    ]
    each = ((r["model"], r["attack"], str(r["seed"]), r["detector"], *_rates(r)) for r in rows)
    return markdown(SCREENED, [*means, *each])


def _rates(line: Line) -> tuple[str, ...]:
    names = ("auroc", "auroc_of_hits", "tpr_0.01", "tpr_0.05", "fpr_0.01", "fpr_0.05")
    values = [line[name] for name in names]
    return tuple("–" if v is None else f"{v:.3f}" if i < 2 else f"{v:.1%}" for i, v in enumerate(values))


def _means(lines: list[Line]) -> Line:
    return {key: _mean(lines, key) for key in lines[0]}


def _mean(lines: list[Line], key: str) -> float | None:
    values = [line[key] for line in lines if isinstance(line[key], float)]
    return fmean(values) if values else None


def _cells(model: Judged) -> tuple[str, ...]:
    line, verdict = model.line, model.verdict
    own = {signal.name: f"{signal.value:.2f} on {target(signal.target_class)}" for signal in verdict.signals}
    witnesses = (own.get(name, "–") for name in WITNESSES)
    return (
        line["name"] + (" (null)" if model.calibrates else ""),
        line["attack"] or "none",
        target(line["target"]) if line["attack"] else "–",
        verdict.label.value,
        target(None) if verdict.all_to_all else ", ".join(map(str, verdict.target_classes)) or "–",
        f"{verdict.false_alarms:.0%}",
        f"{model.score:.1f}",
        *witnesses,
        f"{line['seconds']['whole']:.0f}",
    )


def _wrong(model: Judged) -> bool:
    return model.accused and model.named if not model.line["attack"] else not (model.accused and model.named)


def _is(model: Judged, label: VerdictLabel) -> bool:
    return model.verdict.label is label


def _share(hits: Iterable[bool]) -> str:
    found: Estimate = proportion(torch.tensor(list(hits)))
    return f"{share(found.model_dump())}, n = {found.n}"


def _auroc(planted: list[Judged], clean: list[Judged]) -> float:
    scores = (torch.tensor([m.score for m in models], dtype=torch.float64) for models in (planted, clean))
    return auroc(*scores)


def main() -> None:
    """Print them, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--witnesses", type=Path, nargs="+", required=True)
    parser.add_argument("--draws", type=Path, nargs="+", required=True)
    parser.add_argument("--screening", type=Path, nargs="+", required=True)
    parser.add_argument("--repairs", type=Path, nargs="+", required=True, help="of benchmarks.efficacy.run")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    put(args.write, whole(args.witnesses, args.draws, args.screening, args.repairs))


if __name__ == "__main__":
    main()
