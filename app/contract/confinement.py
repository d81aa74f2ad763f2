"""How the process that opened the uploaded files was confined, as it proved itself before it opened them."""

from enum import StrEnum

from pydantic import Field

from app.contract.frozen import Frozen


class LayerName(StrEnum):
    """What holds the process, each independent of the others."""

    SESSION = "session"  # own session, emptied environment, no descriptor but those it was given
    LIMITS = "limits"  # memory, files, descriptors, core dumps
    PRIVILEGES = "privileges"  # no capability, and no way to a new one
    FILES = "files"  # Landlock: reads its code and its folder, writes its folder
    SYSTEM_CALLS = (
        "system_calls"  # seccomp: no socket, no program, no process, nobody else's memory or signals
    )


class Level(StrEnum):
    """Which layers must hold. A level lowers what is required, never what is applied."""

    FULL = "full"
    REDUCED = "reduced"
    NONE = "none"

    @property
    def required(self) -> frozenset[LayerName]:
        """The layers without which nothing is opened."""
        match self:
            case Level.FULL:
                return frozenset(LayerName)
            case Level.REDUCED:
                return frozenset({LayerName.SESSION, LayerName.LIMITS, LayerName.PRIVILEGES})
            case Level.NONE:
                return frozenset()


class Layer(Frozen):
    """One layer, and the forbidden things that were tried to see whether it holds."""

    name: LayerName
    enforced: bool = Field(description="applied, and everything that was tried was denied")
    detail: str = Field(description="what it consists of here, or why it is missing")
    denied: tuple[str, ...] = Field((), description="tried and denied")
    allowed: tuple[str, ...] = Field((), description="tried and not denied, though it should have been")


class Confinement(Frozen):
    """All layers of one process."""

    layers: tuple[Layer, ...] = ()

    def __str__(self) -> str:
        """For people: the level and what each layer consists of."""
        return "; ".join(
            [
                self.level.value,
                *(f"{layer.name.value.replace('_', ' ')}: {layer.detail}" for layer in self.layers),
            ]
        )

    @property
    def level(self) -> Level:
        """The highest level whose layers all hold."""
        holding = {layer.name for layer in self.layers if layer.enforced}
        return next(level for level in Level if level.required <= holding)

    def missing(self, level: Level) -> tuple[Layer, ...]:
        """The layers that `level` requires and that do not hold."""
        return tuple(layer for layer in self.layers if layer.name in level.required and not layer.enforced)
