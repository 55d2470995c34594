"""The `tickplant` command, also as `python -m tickplant`."""

import os
import signal


def main() -> None:
    """Loads the command and runs it. Before that nothing is begun, so a signal ends it at once and without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    from tickplant.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
