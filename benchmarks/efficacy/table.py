"""The tables of a run: `python -m benchmarks.efficacy.table results.jsonl [--csv FILE] [--write docs/efficacy.md]`.

First each defence over all models, then every line, worst attack success first; failures stand among the rest.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.efficacy.subjects import accurate

Line = dict[str, Any]
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->"
HEAD = (
    "model",
    "attack",
    "n",
    "seed",
    "defence",
    "says",
    "ACC before",
    "ACC after",
    "ASR before",
    "ASR after",
    "RA after",
    "DER",
    "ASR reactivated (clean twin)",
    "s",
)
RATES = ("acc", "asr", "ra")
USUAL = range(250, 1001)  # clean images; lines of fewer or more stand by themselves
WELL_TRAINED = 0.85  # accuracy of a net that is worth the name, small as it is
ENDS = {"": "value", "_low": "low", "_high": "high", "_n": "n"}
SUMMARY = (
    "defence",
    "runs",
    "ASR mean",
    "ASR worst",
    "ACC change mean",
    "ACC change worst",
    "DER mean",
    "ASR reactivated mean",
    "clean: ACC change worst",
    "s mean",
)


def der(line: Line) -> float | None:
    """Defence effectiveness rating, as in BackdoorBench: 1 when all success is gone at no cost, ½ for nothing."""
    before, after = line["before"], line["after"]
    if before["asr"] is None:
        return None
    gained = max(0.0, before["asr"]["value"] - after["asr"]["value"])
    lost = max(0.0, before["acc"]["value"] - after["acc"]["value"])
    return float(gained - lost + 1) / 2


def change(line: Line) -> float:
    """Of clean accuracy."""
    return float(line["after"]["acc"]["value"] - line["before"]["acc"]["value"])


def summary(lines: list[Line]) -> list[tuple[str, ...]]:
    """One row for each defence, best mean DER first; several seeds, other budgets and better nets have their own."""
    rows = []
    for defence, mine in _groups(lines):
        attacked = [line for line in mine if line["before"]["asr"]]
        clean = [change(line) for line in mine if not line["before"]["asr"]]
        if not attacked:
            continue
        came_back = [line["reactivated"]["after"]["value"] for line in attacked if line.get("reactivated")]
        success = [line["after"]["asr"]["value"] for line in attacked]
        rating = fmean(der(line) or 0.0 for line in attacked)
        row = (
            defence,
            str(len(attacked)),
            f"{fmean(success):.1%}",
            f"{max(success):.1%}",
            f"{100 * fmean(map(change, attacked)):+.1f}",
            f"{100 * min(map(change, attacked)):+.1f}",
            f"{rating:.3f}",
            mean_of(came_back, len(attacked)),
            f"{100 * min(clean):+.1f} (n = {len(clean)})" if clean else "–",
            f"{fmean(line['seconds'] for line in mine):.0f}",
        )
        rows.append((rating, row))
    return [row for _, row in sorted(rows, reverse=True)]


def _groups(lines: list[Line]) -> Iterator[tuple[str, list[Line]]]:
    good = accurate(WELL_TRAINED)
    for defence in dict.fromkeys(line["defence"] for line in lines):
        every = [line for line in lines if line["defence"] == defence]
        for n in sorted({line["n_clean"] for line in every} - set(USUAL)):
            yield f"{defence}, {n} images", [line for line in every if line["n_clean"] == n]
        mine = [line for line in every if line["n_clean"] in USUAL]
        yield defence, mine
        better = [line for line in mine if line["model"] in good]
        if better and len(better) < len(mine):
            yield f"{defence}, nets of {WELL_TRAINED:.0%} and more", better
        seeds = sorted({line["seed"] for line in mine})
        for seed in seeds if len(seeds) > 1 else ():
            yield f"{defence}, seed {seed}", [line for line in mine if line["seed"] == seed]


def cells(line: Line) -> tuple[str, ...]:
    """One row of the long table."""
    rating = der(line)
    before, after = line["before"], line["after"]
    return (
        line["model"],
        line["attack"] or "none",
        str(line["n_clean"]),
        str(line["seed"]),
        line["defence"],
        line["says"],
        share(before["acc"]),
        share(after["acc"]),
        share(before["asr"]),
        share(after["asr"]),
        share(after["ra"]),
        "–" if rating is None else f"{rating:.3f}",
        came_back(line),
        f"{line['seconds']:.0f}",
    )


def target(k: int | None) -> str:
    """A class, or that there are several."""
    return "all" if k is None else str(k)


def mean_of(shares: list[float], runs: int) -> str:
    """The mean, with how many it is of where that is not every run."""
    if not shares:
        return "–"
    return f"{fmean(shares):.1%}" + (f" (n = {len(shares)})" if len(shares) < runs else "")


def came_back(line: Line) -> str:
    """ASR after a few poisoned images, and what a clean model learns from them."""
    found = line.get("reactivated")
    return f"{found['after']['value']:.1%} ({found['control']['value']:.1%})" if found else "–"


def share(estimate: dict[str, float] | None) -> str:
    """A proportion with its interval."""
    if estimate is None:
        return "–"
    return f"{estimate['value']:.1%} ({100 * estimate['low']:.1f}–{100 * estimate['high']:.1f})"


def worst_first(line: Line) -> tuple[bool, float, str]:
    """Attacks before controls, what succeeds most before what succeeds least."""
    asr = line["after"]["asr"]
    return asr is None, -(asr["value"] if asr else 0.0), line["model"]


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table."""
    lines = [tuple(head), ("---",) * len(tuple(head)), *map(tuple, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(results: Path) -> tuple[list[Line], str]:
    """The lines of a run, worst first, and both tables of them."""
    lines = sorted(map(json.loads, results.read_text().splitlines()), key=worst_first)
    return lines, markdown(SUMMARY, summary(lines)) + "\n" + markdown(HEAD, map(cells, lines))


def put(page: Path | None, text: str) -> None:
    """Print it, or replace what stands between the marks of a page."""
    if page is None:
        sys.stdout.write(text)
        return
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + text + END + rest.partition(END)[2])


def plain(line: Line) -> dict[str, object]:
    """A line as numbers: shares between 0 and 1, each with the ends of its interval and its n."""
    row = {name: line[name] for name in ("model", "attack", "n_clean", "seed", "defence", "says", "seconds")}
    again = line.get("reactivated") or {}
    measured = {
        **{f"{rate}_{when}": line[when][rate] for when in ("before", "after") for rate in RATES},
        **{f"asr_reactivated_{name}": again.get(name) for name in ("after", "control")},
    }
    for name, estimate in measured.items():
        row |= {f"{name}{end}": (estimate or {}).get(key) for end, key in ENDS.items()}
    return row | {"der": der(line)}


def as_csv(lines: Iterable[Line]) -> str:
    """All lines as numbers."""
    rows = [plain(line) for line in lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """Print both, or put them between the marks of a page; write every line as CSV, in numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    lines, text = tables(args.results)
    put(args.write, text)
    if args.csv:
        args.csv.write_text(as_csv(lines))


if __name__ == "__main__":
    main()
