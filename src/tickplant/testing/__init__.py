"""The simulator for your own tests: the same venues, faults and clock that prove tickplant itself."""

from tickplant.testing.faults import FAULTS, PRESETS, Fault, load_faults
from tickplant.testing.reports.report import Report
from tickplant.testing.world import World, simulate, world

__all__ = ["FAULTS", "PRESETS", "Fault", "Report", "World", "load_faults", "simulate", "world"]
