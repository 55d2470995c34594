"""Sessions as the control thread sees them: one share of a venue on one native loop, and the door for commands."""
