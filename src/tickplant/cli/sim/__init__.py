"""The command that proves the plant in a simulated world."""
