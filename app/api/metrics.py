"""The ledger's numbers as Prometheus reads them; every process of the API gives the same ones."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.ledger import statistics
from app.ledger.database import Database


class LedgerCollector(Collector):
    """Asks the ledger once for each scrape."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every metric. Raises `UnavailableError` where the ledger does not answer."""
        with self.database.read() as tx:
            states, queues = statistics.by_state(tx), statistics.queues(tx)
            stages, stored = statistics.stage_times(tx), statistics.bytes_stored(tx)
        yield _gauge("jobs", "Jobs that the ledger knows.", "state", {s.value: n for s, n in states.items()})
        for name, text, value in (
            ("queue_depth", "Jobs that wait.", "queued"),
            ("queue_oldest_seconds", "How long the oldest of them has waited.", "oldest_s"),
            ("leases", "Jobs that a worker holds.", "leases"),
            ("leases_silent", "Those whose lease has run out.", "silent"),
        ):
            yield _gauge(name, text, "pool", {queue.pool: getattr(queue, value) for queue in queues})
        span = f"the last {statistics.WINDOW_S} s, at most {statistics.SAMPLE} jobs"
        yield _gauge(
            "stage_seconds", f"Time in a stage, of jobs that ended: {span}.", "stage",
            {stage.stage: stage.seconds for stage in stages},
        )  # fmt: skip
        yield _gauge(
            "stage_jobs", f"Jobs that this time is of: {span}.", "stage",
            {stage.stage: stage.jobs for stage in stages},
        )  # fmt: skip
        yield _gauge("stored_bytes", "Bytes in the store, by the ledger.", "what", stored)


def _gauge(name: str, text: str, label: str, values: dict[str, float] | dict[str, int]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"sanitizer_{name}", text, labels=[label])
    for value, number in values.items():
        gauge.add_metric([value], number)
    return gauge
