"""A picture and the sentence that says what it shows."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Figure:
    """What is seen, in words and drawn."""

    shows: str
    picture: Markup
