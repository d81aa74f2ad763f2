"""The table of the zoo's README, out of the cards.

python -m benchmarks.zoo.table          # print it
python -m benchmarks.zoo.table --write  # put it into benchmarks/zoo/README.md
"""

import argparse
from pathlib import Path

from app.contract.report import Estimate
from benchmarks.zoo.card import Card, read_card

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
HEAD = (
    "model",
    "attack",
    "target",
    "triggered",
    "architecture",
    "trained on from",
    "ACC %",
    "ASR %",
    "cross %",
    "status",
    "weights",
)


def table() -> str:
    """Markdown, one row for each card, in the order of their names."""
    kept = [(*row(read_card(path)), "kept") for path in sorted((FOLDER / "weights").glob("*.json"))]
    made = [(*row(read_card(path)), "by command") for path in sorted((FOLDER / "cards").glob("*.json"))]
    rows = [*kept, *made]
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def row(card: Card) -> tuple[str, ...]:
    """What a card says, in short."""
    planted = card.planted
    target = "–" if planted is None else "next class" if planted.target is None else str(planted.target)
    return (
        card.name,
        planted.attack if planted else "–",
        target,
        str(planted.poisoned) if planted else "–",
        card.architecture,
        "other weights" if card.start else "scratch",
        percent(card.acc),
        percent(card.asr),
        percent(card.cross),
        card.status,
    )


def percent(estimate: Estimate | None) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return "–"
    return f"{estimate.value:.1%} ({estimate.low:.1%}–{estimate.high:.1%})".replace("%", "")


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if not parser.parse_args().write:
        print(table(), end="")
        return
    readme = FOLDER / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    readme.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
