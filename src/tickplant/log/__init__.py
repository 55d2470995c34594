"""Reading a log: its records as batches, books at a moment, how good it is."""

from tickplant.log.book import Book, BookLevel
from tickplant.log.coverage import CoverageLedger, Interval
from tickplant.log.log import Log, Position
from tickplant.log.reading import Records

__all__ = ["Book", "BookLevel", "CoverageLedger", "Interval", "Log", "Position", "Records"]
