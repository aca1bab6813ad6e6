"""bench/ is not installed: pytest finds it in the project's folder, however it was started."""

import sys
from pathlib import Path

_PROJECT = str(Path(__file__).resolve().parents[2])
if _PROJECT not in sys.path:
    sys.path.append(_PROJECT)
