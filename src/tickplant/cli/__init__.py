"""The command line: `main.py` holds the door, each other file a few commands or what they show."""
