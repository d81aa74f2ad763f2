"""Confine this process, then try whether it holds. Called before anything uploaded is opened.

Every layer that the machine has is applied, whatever level is required. Knows the kernel; knows nothing of jobs,
models or samples.
"""

import os
from collections.abc import Callable
from pathlib import Path

from app.contract.confinement import Confinement, Layer, LayerName
from app.contract.limits import READING
from app.errors import ConfinementError
from worker.cage import landlock, privileges, seccomp
from worker.cage.attempts import attempts
from worker.cage.policy import Policy

THREADS = Path("/proc/self/task")
DESCRIPTORS = Path("/proc/self/fd")
VARIABLES = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_OFFLINE",
        "HOME",
        "LANG",
        "LC_CTYPE",  # Python sets it
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "TMPDIR",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD",
    }
)
MOST_DESCRIPTORS = 8  # the standard three, the wire, and one to look with


def confine(policy: Policy) -> Confinement:
    """Apply every layer, try every denial, and say what holds.

    Must be the first thing that a process does: it works on the threads there are. Raises `ConfinementError`
    (confinement.missing) when a layer that `policy.required` names does not hold; nothing may be opened then.
    """
    layers: dict[LayerName, Callable[[Policy], str]] = {
        LayerName.SESSION: _session,
        LayerName.PRIVILEGES: privileges.drop,  # before the limits, which a privilege could raise
        LayerName.LIMITS: _limits,
        LayerName.FILES: _files,
        LayerName.SYSTEM_CALLS: _system_calls,
    }
    confinement = Confinement(layers=tuple(_apply(name, do, policy) for name, do in layers.items()))
    if missing := confinement.missing(policy.required):
        listed = "; ".join(f"{layer.name.value}: {_why(layer)}" for layer in missing)
        raise ConfinementError(f"The process that opens uploads cannot be confined as required: {listed}.")
    return confinement


def _apply(name: LayerName, do: Callable[[Policy], str], policy: Policy) -> Layer:
    try:
        detail = do(policy)
    except (OSError, ValueError) as error:
        return Layer(name=name, enforced=False, detail=f"missing: {error}")
    tried = {attempt.what: attempt.denied() for attempt in attempts(name, policy)}
    return Layer(
        name=name,
        enforced=all(tried.values()),
        detail=detail,
        denied=tuple(what for what, denied in tried.items() if denied),
        allowed=tuple(what for what, denied in tried.items() if not denied),
    )


def _why(layer: Layer) -> str:
    return f"it does not deny to {', '.join(layer.allowed)}" if layer.allowed else layer.detail


def _session(_: Policy) -> str:
    if os.getsid(0) != os.getpid():
        raise ValueError("the process has no session of its own")
    if strange := {name for name in set(os.environ) - VARIABLES if not name.startswith(READING)}:
        raise ValueError(f"{len(strange)} variables of the environment were left")
    if (count := len(list(DESCRIPTORS.iterdir()))) > MOST_DESCRIPTORS:
        raise ValueError(f"{count} files are open")
    return "a session of its own, no variable and no descriptor but those it needs"


def _limits(policy: Policy) -> str:
    privileges.limit(policy)
    limits = policy.limits
    return f"memory {limits.memory_bytes >> 20} MiB, one file {limits.file_bytes >> 20} MiB, no core dump"


def _files(policy: Policy) -> str:
    version = landlock.abi()
    if version < landlock.LEAST_ABI:
        raise ValueError(f"Landlock version {version} where {landlock.LEAST_ABI} is needed (Linux 6.2)")
    if len(list(THREADS.iterdir())) > 1:
        raise ValueError("other threads run already, and would stay free")
    landlock.restrict(policy, version)
    return f"Landlock version {version}"


def _system_calls(policy: Policy) -> str:
    if not seccomp.supported():
        raise ValueError("the system calls of this machine are not listed")
    seccomp.restrict(policy)
    return "seccomp filter on all threads"
