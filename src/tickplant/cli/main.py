"""The door of the command line: commands, and errors as one message with an exit code that means something."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tickplant import __version__
from tickplant.cli import about, bench, common, control, demo, imports, run
from tickplant.cli.ask import coverage, read
from tickplant.cli.common import Exit
from tickplant.cli.doctor import doctor
from tickplant.cli.sim import simulate
from tickplant.cli.tape import maps as tape_maps
from tickplant.cli.tape import route as tape_route
from tickplant.cli.tape import serve as tape_serve
from tickplant.errors import TickplantError

EPILOG = """Exit codes: 0 done, or ended by Ctrl-C or SIGTERM; 1 something that the command checks did not hold;
2 wrong usage; 3 settings; 4 log; 5 venue or connection; 6 recording; 7 worker; 8 no plant, or another;
70 a fault of tickplant."""


class Door(TyperGroup):
    """Runs the command that is named. Ctrl-C ends it in order, and so does who reads its output and goes, as `head`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return Exit.OK
        except BrokenPipeError:
            # What is still buffered must not be written at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.OK
        return result


app = typer.Typer(
    name="tickplant",
    help="Market data with its proof: feeds, exact order books, one log.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    cls=Door,
)


@app.callback(invoke_without_command=True)
def start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"tickplant {__version__}")
        raise typer.Exit


app.command()(demo.demo)
app.command("run")(run.run)
app.command()(run.watch)
app.command()(run.record)
app.command("import")(imports.import_files)
app.command()(read.tail)
app.command()(read.book)
app.command()(coverage.coverage)
app.command()(tape_route.route)
app.command("route-map")(tape_maps.route_map)
app.command(context_settings={"allow_interspersed_args": False})(tape_route.lb)
app.command("serve-tape")(tape_serve.serve_tape)
app.command()(simulate.sim)
app.command()(control.resync)
app.command()(control.reconnect)
app.add_typer(bench.app, name="bench")
app.command()(about.venues)
app.command()(doctor)


def main() -> None:
    """The entry of the `tickplant` command."""
    # SIGTERM is Ctrl-C; commands with an event loop put their own handler in its place.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str], command: Callable[[], int] | None = None) -> int:
    """Runs a command and gives its exit code. Errors of ours and of the user print one message, never a traceback.

    `command`: what the arguments mean, where that is known.
    """
    try:
        return int((command() if command else app(arguments, standalone_mode=False)) or Exit.OK)
    except TickplantError as error:
        return _report(error, common.exit_code(error), arguments)
    except typer.Abort:
        return Exit.OK
    except Exception as error:
        show = getattr(error, "show", None)
        if callable(show):
            show()
            return Exit.USAGE
        if "TICKPLANT_TRACEBACK" in os.environ:
            raise
        fault = TickplantError(
            f"{type(error).__name__}: {error}",
            where="inside tickplant",
            hint="this is a fault of ours: run again with TICKPLANT_TRACEBACK=1 and report what it prints",
        )
        return _report(fault, Exit.INTERNAL, arguments)


def _report(error: TickplantError, code: Exit, arguments: list[str]) -> Exit:
    if "--json" in arguments:
        common.print_json(error.to_dict() | {"exit": int(code)})
    print(common.error_text(error), file=sys.stderr)
    return code
