"""All rows, in order; and the page of the documentation that is made of them."""

import re
from pathlib import Path

from tests.hostile import archives, break_ins, containers, headers, meaning, pickle_programs, pixels
from tests.hostile.interface import ROWS, Kind, Row

PAGE = Path(__file__).parents[2] / "docs" / "hostile-input.md"
MODULES = (containers, pickle_programs, headers, meaning, archives, pixels, break_ins)
TITLES = {
    Kind.MODEL: "Model files",
    Kind.NETWORK: "Model files that are well formed",
    Kind.OPTIONS: "Options",
    Kind.SAMPLES: "Samples",
    Kind.CODE: "Code that runs in the cage",
}
INTRODUCTION = """# Hostile input

What is tried against the readers and the cage on every run of the tests, and the answer that it must get. Each row is
one function in `tests/hostile/`, which makes its files; nothing hostile is stored. Every file is read directly and,
by a process that is confined as every job is, through the cage; after them good inputs are read by the same process,
no file outside was touched, nobody connected to the port that was open, and no process is left.
`accepted` means: read, and harmless. This page is made from the corpus: `python -m tests.hostile.table`.
"""


def rows() -> list[Row]:
    """By number; the numbers are grouped by what is attacked."""
    return sorted(ROWS, key=lambda row: (int(re.match(r"\d+", row.number)[0]), row.number))  # type: ignore[index]


def render() -> str:
    """The page."""
    files = {row.number: sum(1 for _ in row.make()) for row in ROWS}
    sections = [INTRODUCTION + f"\n{len(ROWS)} rows, {sum(files.values())} files.\n"]
    for kind, title in TITLES.items():
        lines = [f"\n## {title}\n", "| row | what | files | answer |", "|---|---|---|---|"]
        for row in rows():
            if row.kind is kind:
                answers = ", ".join(f"`{answer}`" for answer in sorted(row.answers))
                what = row.what.replace("<", "&lt;").replace("|", "\\|")
                lines.append(f"| {row.number} | {what} | {files[row.number]} | {answers} |")
        sections.append("\n".join(lines) + "\n")
    return "".join(sections)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
