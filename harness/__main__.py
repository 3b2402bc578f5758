"""``python -m harness`` is ``harness``."""

import sys

from harness.entry import harness

sys.exit(harness())
