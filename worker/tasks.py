"""The one task."""

from app.bell.ring import TASK
from worker.celery import app, log, workforces


@app.task(name=TASK, ignore_result=True)
def ring(hint: str) -> None:
    """Wake the slots; whether they still find the hinted job does not matter."""
    log.info("the bell rang for %s", hint)
    for workforce in workforces:
        workforce.ring()
