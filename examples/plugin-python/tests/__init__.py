"""The tests find the plugin and the SDK without an installation."""

import sys
from pathlib import Path

project = Path(__file__).parent.parent
sys.path[:0] = [str(project / "src"), str(project / "../../sdk/plugin-python/src")]
