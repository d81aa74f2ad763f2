"""`sanitizer verify`: whether a folder is what its statement says."""

from pathlib import Path
from typing import Annotated

import typer

from app.attestation.signing import read_public_key
from app.attestation.verifying import Verification
from app.attestation.verifying import verify as check
from app.errors import ExitCode

commands = typer.Typer()


@commands.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="what sanitize wrote to --out, or was downloaded")],
    key: Annotated[
        Path | None, typer.Option(help="PEM file of the public key; without, no signature is checked")
    ] = None,
    *,
    as_json_only: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Check every file in FOLDER against its statement, and the signatures. Exit code 1: something does not hold."""
    found = check(folder, read_public_key(key) if key else None)
    typer.echo(found.model_dump_json(indent=2) if as_json_only else "\n".join(_lines(found)))
    raise typer.Exit(ExitCode.FINDINGS if found.findings else ExitCode.OK)


def _lines(found: Verification) -> list[str]:
    lines = [f"intact      {_shown(name)}" for name in found.intact]
    lines += [f"DIFFERS     {_shown(finding.file)}: {_shown(finding.what)}" for finding in found.findings]
    lines += [f"unattested  {_shown(name)}" for name in found.unattested]
    if found.signed_by is not None and not found.findings:
        lines.append(f"signature   of the key {found.signed_by}")
    elif found.signed_by is None:
        told = "not checked: name the public key with --key" if found.is_signed else "none"
        lines.append(f"signature   {told}")
    return lines


def _shown(text: str) -> str:
    """Names come from a stranger, and must not drive the terminal."""
    return text.encode("unicode_escape").decode()
