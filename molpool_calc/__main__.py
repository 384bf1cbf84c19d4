"""``python -m molpool_calc``: the same as ``molpool``."""

import sys

from molpool_calc.cli import main

sys.exit(main())
