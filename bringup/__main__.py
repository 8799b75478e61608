"""``python -m bringup`` is ``bringup``."""

import sys

from bringup.daemon.cli import main

sys.exit(main())
