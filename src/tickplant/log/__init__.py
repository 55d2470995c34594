"""Reading a log: its records as batches, books at a moment."""

from tickplant.log.book import Book, BookLevel
from tickplant.log.log import Log, Position
from tickplant.log.reading import Records

__all__ = ["Book", "BookLevel", "Log", "Position", "Records"]
