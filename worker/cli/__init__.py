"""The offline commands: the whole product on one machine, without the service.

Knows the terminal and the output folder; the science is in the pipelines.
"""

import typer

from worker.cli import confinement, images, model

commands = typer.Typer()
commands.add_typer(model.commands)
commands.add_typer(images.commands)
commands.add_typer(confinement.commands)
