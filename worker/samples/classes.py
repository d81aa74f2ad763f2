"""Which class of the model a folder means: by classes.json, by number, or by sorted order, and never by guess.

Knows names and numbers; knows nothing of files, images or tensors.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.errors import SamplesError
from worker.samples.entries import shown

CLASSES_JSON = "classes.json"
ADD_CLASSES_JSON = (
    f"Add {CLASSES_JSON} beside the class folders: the names in the order of the model's outputs, "
    'such as ["cat", "dog"].'
)


@dataclass(frozen=True, slots=True)
class Classes:
    """`index`: folder -> class of the model; `names`: class -> name, one per class of the model."""

    index: Mapping[str, int]
    names: tuple[str, ...]


def assign(folders: Iterable[str], num_classes: int, listed: Mapping[str, int] | None) -> Classes:
    """The class of each folder: its number, else its place in `listed` if given, else its place in sorted order.

    Sorted order counts only when every class has a folder. Numbers go by value ("10" after "9", "007" is 7),
    while a plain sort of such names would put "10" before "2". What is `listed` names them, unless it gives a number
    to another class.
    Raises `SamplesError`: class_mismatch, label_out_of_range.
    """
    names = sorted(folders)
    if _are_numbers(names) and not _renumbers(listed or {}):
        index = _by_number(names, num_classes)
        if listed is not None:
            _check_named(index, listed)
    elif listed is not None:
        index = _by_list(names, listed)
    elif len(names) == num_classes:
        index = {name: place for place, name in enumerate(names)}
    else:
        raise mismatch(
            f"{len(names)} class folders for a model of {num_classes} classes; "
            "their names do not tell which class each one is."
        )
    known = {place: name for name, place in {**index, **(listed or {})}.items()}
    return Classes(index, tuple(known.get(place, str(place)) for place in range(num_classes)))


def parse_classes_json(data: bytes, num_classes: int) -> dict[str, int]:
    """The class of each name, from a list of names in order or from an object {name: class}.

    Raises `SamplesError` class_mismatch.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise mismatch(f"{CLASSES_JSON} is not JSON.") from error
    if isinstance(content, list) and len(content) != num_classes:
        raise mismatch(f"{CLASSES_JSON} names {len(content)} classes; the model has {num_classes}.")
    pairs = list(content.items()) if isinstance(content, dict) else []
    if isinstance(content, list):
        pairs = [(name, place) for place, name in enumerate(content)]
    listed = {name: place for name, place in pairs if _is_class(name, place, num_classes)}
    if not pairs or len(set(listed.values())) != len(pairs):
        raise mismatch(
            f"{CLASSES_JSON} must be a list of {num_classes} different names, or an object that gives each name "
            f"its own class from 0 to {num_classes - 1}."
        )
    return listed


def mismatch(detail: str) -> SamplesError:
    """The error for folders whose classes are not clear."""
    return SamplesError(detail, code="samples.class_mismatch", remedy=ADD_CLASSES_JSON)


def _is_class(name: object, place: object, num_classes: int) -> bool:
    printable = isinstance(name, str) and bool(name) and name.isprintable()
    # bool is an int, and true is no class
    return printable and isinstance(place, int) and not isinstance(place, bool) and 0 <= place < num_classes


def _are_numbers(names: Iterable[str]) -> bool:
    """Whether every name is a decimal number, in ASCII digits."""
    return all(name.isascii() and name.isdecimal() for name in names)


def _renumbers(listed: Mapping[str, int]) -> bool:
    """Whether a name is the number of another class, as in a list that counts from 1."""
    numbers = ((name.lstrip("0") or "0", place) for name, place in listed.items() if _are_numbers([name]))
    return any(number != str(place) for number, place in numbers)


def _check_named(index: Mapping[str, int], listed: Mapping[str, int]) -> None:
    strange = [name for name, place in index.items() if place not in listed.values()]
    if strange:
        raise mismatch(
            f"The folder {shown(strange[0])} is the number of a class that the list does not name."
        )


def _by_list(names: list[str], listed: Mapping[str, int]) -> dict[str, int]:
    strange = [name for name in names if name not in listed]
    if strange:
        raise mismatch(f"The folder {shown(strange[0])} is not among the names of the classes.")
    return {name: listed[name] for name in names}


def _by_number(names: list[str], num_classes: int) -> dict[str, int]:
    index: dict[str, int] = {}
    for name in names:
        place = int(name)
        if place >= num_classes:
            raise SamplesError(
                f"The folder {shown(name)} is out of range: the model has {num_classes} classes, "
                f"0 to {num_classes - 1}.",
                code="samples.label_out_of_range",
                remedy=f"Count from 0, or name the folders and add {CLASSES_JSON}.",
            )
        if place in index.values():
            raise mismatch(f"Two folders have the number {place}.")
        index[name] = place
    return index
