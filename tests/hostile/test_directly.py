"""Every row against the readers, in this process: each file gets the answer of its row, and quickly."""

import io
from pathlib import Path

import pytest

from app.contract.limits import input_limits
from tests.hostile.checkpoints import WEIGHTS
from tests.hostile.interface import ACCEPTED, Kind, Row
from tests.hostile.reading import read
from tests.hostile.table import PAGE, render, rows

DIRECT = [row for row in rows() if row.kind is not Kind.CODE]
LONGEST_S = 20.0  # a hang, not a slow machine


@pytest.mark.parametrize("row", DIRECT, ids=lambda row: f"{row.number}")
def test_every_file_gets_the_answer_of_its_row(row: Row, tmp_path: Path) -> None:
    answers = []
    for place, data in enumerate(row.make()):
        path = tmp_path / f"{place}{row.suffix}"
        path.write_bytes(data)
        outcome = read(row.kind, path)
        path.unlink()
        answers.append(outcome.answer)
        assert outcome.answer in row.answers, f"{row.number}, file {place}: {outcome}"
        assert outcome.seconds < LONGEST_S
        assert len(outcome.words) < 1000
        assert "\x1b" not in outcome.words
        assert "\u202e" not in outcome.words
    assert answers
    assert row.answers == {ACCEPTED} or set(answers) != {ACCEPTED}
    assert list(tmp_path.iterdir()) == []


def test_one_wrong_bit_never_changes_a_number(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(WEIGHTS)
    good = read(Kind.MODEL, path)
    assert good.answer == ACCEPTED
    (row,) = (row for row in rows() if row.number == "29")
    for data in row.make():
        path.write_bytes(data)
        outcome = read(Kind.MODEL, path)
        assert outcome.answer != ACCEPTED or outcome.digest == good.digest


def test_the_corpus_is_as_large_as_promised() -> None:
    numbers = [row.number for row in rows()]
    assert len(numbers) == len(set(numbers)) >= 80
    assert all(row.answers for row in rows())
    assert input_limits().model.members < 65_535


def test_the_page_shows_the_corpus() -> None:
    """Make it anew with `python -m tests.hostile.table`."""
    assert PAGE.read_text(encoding="utf-8") == render()


def test_a_file_can_be_written_in_many_pieces() -> None:
    """The corpus is made, not stored: twice the same."""
    for row in DIRECT[:5]:
        assert [io.BytesIO(data).read() for data in row.make()] == list(row.make())
