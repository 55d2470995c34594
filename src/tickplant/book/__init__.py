"""Order books of your own, native: by price level (L2) and by order (L3), in batches of columns or change by change.

Prices and sizes are whole numbers at the scales that the book was made with, so nothing is rounded: 45283.5 at
`price_scale=1` is 452835. What comes back is plain text. Sides are "B" and "A".

    import numpy as np
    from tickplant.book import Book

    book = Book(depth=10, truncate=True, checksum="kraken", price_scale=1, size_scale=8)
    book.load(b"BA", np.array([452835, 452840]), np.array([10_000_000, 5_000_000]))
    book.set("B", 452830, 700_000)                       # one level; a size of 0 takes it away
    book.best("B")                                       # ("45283.5", "0.10000000", 0)
    book.touch()                                         # (452835, 10000000, 452840, 5000000)
    book.agrees(3310070434)                              # the venue's checksum: False

A call costs more than a level does. Many messages are one call: `book.touches(sides, prices, sizes, message=19)` takes
the columns of all of them, 19 rows each, and `np.frombuffer(.., np.int64).reshape(-1, 4)` is the touch after each.

Columns: sides as bytes or uint8, prices and sizes as int64, ids as uint64. ValueError tells of columns of different
lengths, of negative sizes and of letters that are no side; the message that holds them changes nothing.
"""

from tickplant._native import Book, OrderBook

__all__ = ["Book", "OrderBook"]
