"""Commands that ask a log."""
