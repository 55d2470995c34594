"""The dialects of the simulated venues, one file each, under the names of the real ones."""
