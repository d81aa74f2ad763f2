"""Tell the workers of a pool that there is work. The only code of the app that says Celery.

The bell owns nothing: whoever hears it asks the ledger, and whoever does not looks there every few seconds anyway. So
a ring that fails is a line in the log and no more.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery

from app.settings import Settings

TASK = "worker.ring"
CEILING_S = 2.0  # of one connection, one read or one write
QUIET_S = (
    10.0  # no ring after one that failed, so that a dead broker costs one timeout and not one for every job
)
log = logging.getLogger(__name__)


def transport(settings: Settings, patience_s: float) -> dict[str, Any]:
    """How both ends reach the broker; `patience_s` is how long one read or write of a socket may take."""
    if settings.broker.startswith("filesystem://"):
        folder = settings.bell_folder
        for name in ("messages", "control"):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        messages, control = str(folder / "messages"), str(folder / "control")
        options: dict[str, Any] = {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": control,
            "polling_interval": 0.2,
        }
        named = {"broker_transport": "app.bell.folder:Transport"}
    else:
        options = {
            "global_keyprefix": "sanitizer:",
            "socket_timeout": patience_s,
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
            "health_check_interval": 10,
        }
        named = {}
    return {"broker_url": settings.broker, "broker_transport_options": options, **named}


class Bell:
    """Rings in a thread of its own, so that nobody waits for a broker."""

    def __init__(self, settings: Settings) -> None:
        self.celery = Celery("sanitizer", set_as_current=False)
        self.celery.conf.update(transport(settings, CEILING_S), task_ignore_result=True)
        self.celery.conf.broker_transport_options |= {"max_retries": 0, "interval_start": 0}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="bell")
        self.waiting: set[str] = set()  # pools that are about to be rung; a second ring would say nothing new
        self.quiet_until = 0.0

    def ring(self, pool: str, hint: str) -> None:
        """Ring the pool soon; `hint` is a job id for the log. Call it after the commit."""
        if pool not in self.waiting and time.monotonic() >= self.quiet_until:
            self.waiting.add(pool)
            self.thread.submit(self._send, pool, hint)

    def close(self) -> None:
        """Stop, without waiting for a broker that does not answer."""
        self.thread.shutdown(wait=False, cancel_futures=True)
        self.celery.close()

    def _send(self, pool: str, hint: str) -> None:
        self.waiting.discard(pool)  # first: a job that is committed from here on wants a ring of its own
        try:
            self.celery.send_task(TASK, args=(hint,), queue=pool, retry=False, ignore_result=True)
        except Exception as error:  # noqa: BLE001 - whatever the broker does, the job is in the ledger
            log.warning("the bell of pool %s did not ring for %s: %r", pool, hint, error)
            self.quiet_until = time.monotonic() + QUIET_S
