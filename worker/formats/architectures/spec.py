"""How an architecture is written down: `name` or `name:argument=value,argument=value`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import OptionsError
from worker.formats.architectures.interface import Architecture

PAIR = re.compile(r"(\w+)=(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Spec:
    """A name, and the arguments that were given with it."""

    name: str
    given: Mapping[str, int]


def parse(text: str) -> Spec:
    """Read a spec. Raises `OptionsError` when it is not of that form."""
    name, colon, rest = text.strip().partition(":")
    pairs = [PAIR.fullmatch(part.strip()) for part in rest.split(",")] if colon else []
    given = {pair[1]: int(pair[2]) for pair in pairs if pair}
    if not name or len(given) != len(pairs):
        raise _refusal(
            f"{text!r} is not of the form name:argument=number,argument=number, with each argument once."
        )
    return Spec(name, given)


def check(spec: Spec, architecture: Architecture) -> None:
    """Raise `OptionsError` unless the architecture takes these arguments and these values."""
    known = ", ".join(architecture.arguments) or "no arguments"
    for name, value in spec.given.items():
        if name not in architecture.arguments:
            raise _refusal(f"{spec.name} takes {known}; {name!r} is not among them.")
        allowed = architecture.arguments[name].allowed
        if value not in allowed:
            steps = f" in steps of {allowed.step}" if allowed.step > 1 else ""
            raise _refusal(
                f"{name}={value} is out of bounds: {spec.name} takes {allowed[0]} to {allowed[-1]}{steps}."
            )


def canonical(name: str, architecture: Architecture, arguments: Mapping[str, int]) -> str:
    """The spec with every argument that differs from its default, in the order of the architecture."""
    told = [
        f"{key}={arguments[key]}"
        for key, argument in architecture.arguments.items()
        if arguments[key] != argument.default
    ]
    return f"{name}:{','.join(told)}" if told else name


def _refusal(detail: str) -> OptionsError:
    return OptionsError(
        detail,
        code="options.architecture",
        remedy="Write for example resnet18_cifar:width=32, or auto to have the architecture found.",
    )
