"""The page of the ranking: `python -m benchmarks.efficacy.ranking_table ranking.jsonl [--write docs/ranking.md]`.

First how each signal orders the repairs of one model beside their hidden attack success, then every repair.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import bootstrap, rankdata, spearmanr

from app.contract.options import SanitizeOptions
from benchmarks.efficacy.table import markdown, put, share, worst_first

Line = dict[str, Any]
# What grows with the evidence that a signal gives against a repair.
RISING = {"success": 1, "pursued": 1, "size": -1, "shift": 1, "change": -1}
NAMES = {
    "success": "success of the suspect's perturbations",
    "pursued": "success of what follows the repaired model",
    "size": "relative size of what a fresh search finds",
    "shift": "label shift when it is unlearned",
    "change": "clean accuracy that it costs",
}
TOGETHER = "mean rank by the first three"
FIRST = ("success", "pursued", "size")
FEWEST = 4  # repairs of one model that were asked; an order of fewer says little
STANDS = 0.15  # attack success above which a repair has failed
LINES = SanitizeOptions()


def against(line: Line, signal: str) -> float | None:
    """What the signal says against a repair."""
    answer = line["answers"].get(signal)
    return None if answer is None else RISING[signal] * float(answer)


def correlation(lines: Sequence[Line], signal: str) -> float | None:
    """Spearman's, over the repairs of one model, with the hidden success of the attack; None: too few, or all alike."""
    asked = [line for line in lines if all(against(line, s) is not None for s in _read(signal))]
    success = [line["asr"]["value"] for line in asked]
    if len(asked) < FEWEST or len(set(success)) == 1:
        return None
    ranks = [rankdata([against(line, s) for line in asked]) for s in _read(signal)]
    said = np.mean(ranks, axis=0)
    return None if np.ptp(said) == 0 else float(spearmanr(said, success).statistic)


def _read(signal: str) -> tuple[str, ...]:
    return FIRST if signal == TOGETHER else (signal,)


def summary(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    """One row for each signal: the mean over models, its interval, and the model that it orders worst."""
    models: dict[str, list[Line]] = {}
    for line in lines:
        models.setdefault(line["model"], []).append(line)
    rows: list[tuple[str, ...]] = []
    for signal in (*RISING, TOGETHER):
        found = {name: rho for name, mine in models.items() if (rho := correlation(mine, signal)) is not None}
        if len(found) < 2:
            continue
        low, high = _interval(list(found.values()))
        worst = min(found, key=found.__getitem__)
        mean = f"{fmean(found.values()):+.2f} ({low:+.2f} to {high:+.2f})"
        rows.append((NAMES.get(signal, signal), mean, str(len(found)), f"{found[worst]:+.2f} ({worst})"))
    return rows


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the mean, 95 %, by drawing models again; the values themselves where all are alike."""
    if len(set(values)) == 1:
        return values[0], values[0]
    found = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def silent(line: Line) -> bool | None:
    """Whether no perturbation accuses the repair, by the lines of a job; None: it has lost the clean task."""
    told, said = LINES.evidence, line["answers"]
    if "success" not in said:
        return None
    pursued = said["pursued"] is None or said["pursued"] <= told.pursued
    return bool(said["success"] <= told.success and pursued and said["size"] >= told.relative_size)


def rule(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    """What the lines of a job make of the repairs, beside what is left of the attack."""
    lines = list(lines)
    rows: list[tuple[str, ...]] = []
    for name, answer in (("silent", True), ("accused still", False), ("clean task lost", None)):
        left = [line["asr"]["value"] for line in lines if silent(line) is answer]
        stands = sum(asr > STANDS for asr in left)
        spread = f"{min(left):.1%} to {max(left):.1%}" if left else "–"
        rows.append((name, str(len(left)), str(stands), spread))
    return rows


def cells(line: Line) -> tuple[str, ...]:
    """One row of the long table."""
    verdict = {True: "silent", False: "accused", None: "lost"}[silent(line)]
    said = [_number(line["answers"].get(signal)) for signal in RISING]
    return (line["model"], line["repair"], share(line["asr"]), share(line["acc"]), *said, verdict)


def _number(value: float | None) -> str:
    return "–" if value is None else "∞" if math.isinf(value) else f"{value:.2f}"


def tables(results: Path) -> str:
    """All three, failures first."""
    lines = list(map(json.loads, results.read_text().splitlines()))
    worst = sorted(lines, key=lambda line: worst_first({**line, "after": line}))
    return "\n".join(
        (
            markdown(("signal", "rank correlation, mean (95 %)", "models", "worst"), summary(lines)),
            markdown(("by the lines of a job", "repairs", f"ASR above {STANDS:.0%}", "ASR"), rule(lines)),
            markdown(("model", "repair", "ASR", "ACC", *RISING, "says"), map(cells, worst)),
        )
    )


def main() -> None:
    """Print them, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    put(args.write, tables(args.results))


if __name__ == "__main__":
    main()
