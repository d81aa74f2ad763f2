"""How far a command is, on a terminal or in the log of a pipeline."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.contract.job import Stage

LINES = 40  # of one stage, where the output is piped


class Bars:
    """Progress bars on a terminal, a line per stage where the output is piped."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tasks: dict[Stage, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Bars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, stage: Stage, done: int, total: int, **metrics: float) -> None:
        """Show it."""
        text = " ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        if not self.console.is_terminal:
            every = max(1, total // LINES)  # not every step of a long stage deserves a line
            if done == total or (metrics and done % every == 0):
                self.console.print(f"{stage.value} {done}/{total} {text}".rstrip(), highlight=False)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage.value, total=total, metrics="")
        self.progress.update(self.tasks[stage], completed=done, total=total, metrics=text)
