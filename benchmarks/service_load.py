"""How the service bears load, beside its targets, as tables: `python -m benchmarks.service_load --help`.

Everything runs on this machine, on loopback, for a bounded time. Whatever else the machine does makes the numbers
worse, so its load is printed with them.
"""

import argparse
import os
from collections.abc import Iterable, Sequence

from benchmarks import service_clients, service_rows, service_starts, service_uploads

PARTS = ("clients", "uploads", "starts", "rows")


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description="How the service bears load.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {PARTS}; all of them, unless some are named"
    )
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=8, help="of one run of the clients")
    parser.add_argument(
        "--pauses", type=float, nargs="+", default=[0.5, 0.1, 0.0], help="seconds; 0: flat out"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of each run of the clients")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument(
        "--postgres", default="postgresql://postgres@127.0.0.1:5432", help="server; '' for none"
    )
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0", help="server; '' for none")
    asked = parser.parse_args()
    print(f"{os.cpu_count()} processors, load before {os.getloadavg()[0]:.1f}\n")
    for part in asked.parts or PARTS:
        match part:
            case "clients":
                _table(service_clients.HEADINGS, _clients(asked))
            case "uploads":
                _table(service_uploads.HEADINGS, service_uploads.rows(asked.megabytes))
            case "starts":
                _table(service_starts.HEADINGS, service_starts.rows(asked.redis))
            case _:
                _table(service_rows.HEADINGS, service_rows.rows(asked.postgres))
    print(f"load after {os.getloadavg()[0]:.1f}")


def _clients(asked: argparse.Namespace) -> Iterable[Sequence[str]]:
    with service_clients.api() as server:
        body = service_clients.upload(server)
        for pause_s in asked.pauses:
            title = f"{asked.clients} clients, " + (f"{pause_s:g} s pause" if pause_s else "flat out")
            runs = [
                service_clients.load(server, body, asked.clients, pause_s, asked.seconds)
                for _ in range(asked.repeats)
            ]
            yield from service_clients.rows(title, runs)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


if __name__ == "__main__":
    main()
