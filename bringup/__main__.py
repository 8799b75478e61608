"""``python -m bringup`` is ``bringup``."""

import sys

from bringup.daemon.cli.main import main

sys.exit(main())
