"""Why the pickle of a checkpoint is refused, and what whoever trusts it can do."""

from app.errors import ModelError
from worker.formats.interface import DAMAGED

_LOAD = (
    "Where you trust the file, whose code this runs, load it and save its weights alone:\n"
    '    loaded = torch.load("model.pt", weights_only=False)\n'
)
SAVE_MODULE = _LOAD + '    torch.save(loaded.state_dict(), "weights.pt")'
SAVE_NESTED = (
    _LOAD + '    torch.save(loaded["state_dict"], "weights.pt")  # or the key that holds them: "model", "net"'
)
SAVE_EITHER = (
    _LOAD
    + '    torch.save(loaded["state_dict"], "weights.pt")  # of a checkpoint, by the key that holds them\n'
    '    torch.save(loaded.state_dict(), "weights.pt")  # of a whole model'
)
# Not SAVE_AGAIN: with weights_only=True torch itself reads few protocols.
SAVE_AS_USUAL = (
    "Where you trust the file, whose code this runs: "
    'torch.save(torch.load("model.pt", weights_only=False), "weights.pt")'
)


def damaged(why: str) -> ModelError:
    """No pickler wrote this."""
    detail = f"The pickle in the checkpoint is damaged: {why}."
    return ModelError(detail, code="model.malformed_pickle", remedy=DAMAGED)


def too_much(why: str) -> ModelError:
    """It would take the memory or the time of whoever reads it."""
    detail = f"The pickle in the checkpoint is beyond all measure: {why}."
    return ModelError(detail, code="model.pickle_limits", remedy=SAVE_EITHER)


def unsafe(why: str, remedy: str = SAVE_EITHER) -> ModelError:
    """It asks for more than plain values."""
    detail = f"The pickle in the checkpoint is more than a state dict: {why}. It was not run."
    return ModelError(detail, code="model.unsafe_pickle", remedy=remedy)
