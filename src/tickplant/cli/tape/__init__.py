"""The commands of the tape."""
