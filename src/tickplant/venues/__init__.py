"""Venues: one small file each of data and pure functions; `table` stands above them and is not imported from below."""
