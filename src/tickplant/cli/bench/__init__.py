"""`bench`: what things cost on this machine."""

from __future__ import annotations

import typer

from tickplant.cli.bench.replay import replay

app = typer.Typer(no_args_is_help=True, help="What it costs on this machine.")
# With one command alone Typer would leave its name out.
app.callback()(lambda: None)
app.command()(replay)
