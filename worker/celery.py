"""The Celery application of a worker: a doorbell, and nothing else.

Messages are acknowledged early and carry no result, retry or schedule: the ledger owns the jobs. Start it with
`celery --app worker.celery worker --pool solo`; a task takes microseconds, so one thread is enough.
"""

import logging
from typing import Any

from celery import Celery, signals

from app.bell.ring import transport
from app.errors import SanitizerError
from app.ledger import schema
from app.settings import read_settings
from worker.cage.proof import prove
from worker.supervision.parts import Parts
from worker.supervision.workforce import Workforce

PATIENCE_S = 30  # more than one blocking read of the broker
log = logging.getLogger(__name__)
settings = read_settings()

app = Celery("worker", include=["worker.tasks"])
app.conf.update(
    transport(settings, PATIENCE_S),
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    result_backend=None,
    task_default_queue=settings.pool,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)

workforces: list[Workforce] = []  # one, from the moment that the worker is ready


@signals.celeryd_init.connect
def check(**_: Any) -> None:  # noqa: ANN401 - Celery's own signature
    """Refuse to start where uploads cannot be confined as required, or on a ledger of another version."""
    try:
        log.info("the cage holds: %s", prove(settings.confinement))
        parts = Parts.open(settings)
        schema.check(parts.database)
    except SanitizerError as error:
        # Celery would swallow any other exception, and go on as a worker that never works.
        raise SystemExit(f"{error.code}: {error.detail} {error.remedy}") from error
    workforces.append(Workforce(parts, settings.slots))
    workforces[0].start()


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:  # noqa: ANN401
    """Claim nothing more."""
    for workforce in workforces:
        workforce.drain()


@signals.worker_shutdown.connect
def join(**_: Any) -> None:  # noqa: ANN401
    """Wait for the jobs that still run."""
    for workforce in workforces:
        workforce.join()
