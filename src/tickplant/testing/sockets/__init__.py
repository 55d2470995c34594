"""Faults and checks over real sockets: a proxy between a plant and its venues, and the log held to the truth."""
