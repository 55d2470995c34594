"""The tape: a whole market on one connection, dealt to workers, and the server that replays one."""

from tickplant.tape import worker

__all__ = ["worker"]
