"""``plmsearch doctor``: is this installation sound."""

from __future__ import annotations

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note

__all__ = ["doctor"]


@handles_errors
def doctor(debug: o.Debug = False) -> None:
    """Print versions, hardware and models at hand, and warn of what is not as it should be."""
    from plmsearch.doctor import doctor as facts

    for what, value, warning in facts():
        typer.echo(f"{what:<22}{value}")
        if warning:
            note(f"warning: {what}: {warning}")
