"""The process that `route` becomes: the native router and nothing of what read the command line.

A router lives for months beside what it feeds, and has no use for the command line's 20 MB of modules. So `route` hands
its settings to a fresh interpreter in the same process: the same pid, descriptors and exit codes. The settings, which
may hold the feed's key, go over in a file without a name and not in the arguments.
"""

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tickplant.tape.route import RouteSettings

# They wait until the fresh interpreter listens.
ENDS = {signal.SIGINT, signal.SIGTERM}


def become_router(settings: "RouteSettings") -> NoReturn:
    """Runs the router in place of this process. Raises ConfigError where the settings are wrong."""
    import msgspec

    text = msgspec.json.encode(settings.check())
    file = os.memfd_create("tickplant-route", 0)
    with os.fdopen(os.dup(file), "wb") as out:
        out.write(text)
    os.lseek(file, 0, os.SEEK_SET)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    # What was typed stands behind it for whoever looks at the list of processes.
    os.execv(sys.executable, [sys.executable, "-m", "tickplant.cli.tape.light", str(file), *sys.argv[1:]])


def main() -> int:
    """Routes by the settings in the file whose descriptor is the first argument."""
    from tickplant._native import TapeRouter

    with os.fdopen(int(sys.argv.pop(1)), "rb") as file:
        text = file.read()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        TapeRouter(text).run()
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        ended = error
    else:
        return 0
    # Only now, for it loads everything.
    from tickplant.cli.main import call

    def tell() -> int:
        raise ended

    return call(sys.argv[1:], tell)


if __name__ == "__main__":
    sys.exit(main())
