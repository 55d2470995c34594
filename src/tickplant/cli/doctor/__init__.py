"""`doctor`: whether this machine can run a plant, and what plants that were killed left on it."""

from tickplant.cli.doctor.command import doctor

__all__ = ["doctor"]
