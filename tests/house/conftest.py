"""Makes `tree` importable for the tests of the house."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
