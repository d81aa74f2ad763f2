"""The checkpoint of a job: from its folder into the store, and into the folder of the next attempt.

A checkpoint only saves time, so nothing that goes wrong with it is worth ending a job for.
"""

import logging
from pathlib import Path

from app.contract.artifact import ArtifactKind
from app.errors import SanitizerError
from app.ledger import checkpoints
from app.ledger.claims import Claim
from worker.cage.messages import KEPT, RESTORED
from worker.supervision.outputs import stage
from worker.supervision.parts import Parts

AS_FLOAT32 = 4  # times the bytes of the suspect's file, at most, for each unlearned copy
MARGIN = 16 * 1024 * 1024  # bytes of whatever is no weight
log = logging.getLogger(__name__)


def restore(folder: Path, held: Claim, parts: Parts) -> None:
    """Put what an attempt before this one left into the folder."""
    if held.job.attempt == 1:
        return
    try:
        with parts.database.read() as tx:
            digest = checkpoints.find(tx, held.job.id)
        if digest is not None:
            parts.blobs.fetch(held.tenant_id, digest, folder / RESTORED)
            log.info("job %s attempt %d goes on from a checkpoint", held.job.id, held.job.attempt)
    except SanitizerError as error:
        (folder / RESTORED).unlink(missing_ok=True)
        log.warning("job %s begins anew: %s", held.job.id, error)


def keep(folder: Path, held: Claim, parts: Parts) -> None:
    """Store what the child left in the folder."""
    model = next(item for item in held.job.inputs if item.kind is ArtifactKind.MODEL)
    limit = held.job.options.evidence.seeds * AS_FLOAT32 * model.size + MARGIN
    try:
        staged = stage(folder / KEPT, limit, parts.blobs)
        try:
            with parts.database.write() as tx:
                if checkpoints.keep(tx, held, staged.digest, staged.size, parts.keep_s):
                    parts.blobs.publish(held.tenant_id, staged)
        finally:
            staged.staging.discard()
    except SanitizerError as error:
        log.warning("the checkpoint of job %s was not kept: %s", held.job.id, error)


def drop(held: Claim, parts: Parts) -> None:
    """Delete it when the job is over."""
    try:
        with parts.database.write() as tx:
            checkpoints.drop(tx, held, parts.blobs.remove)
    except SanitizerError as error:
        log.warning("the checkpoint of job %s stays until the job goes: %s", held.job.id, error)
