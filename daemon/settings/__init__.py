"""What an operator may set, and where credentials come from.

* ``model``: every key and its default; ``values``: kinds of value; ``sections``: how a section is validated.  To add a
  key, begin in ``model``, then ``../example.toml`` and ``docs/settings.md``: the tests compare the three.
* ``layers``: settings file, then ``BRINGUP_*``, then ``--set``; the later one wins.
* ``loading``: validation of all of it before anything happens; ``cross_checks``: keys that are wrong together.
* ``keys``, ``problems``: one sentence for each wrong key.
* ``secret_files``: one reader for secrets; ``credentials``: those of Placement, Keystone and RabbitMQ; ``pci``: device
  specs.
"""

from bringup.daemon.settings.cross_checks import require_placement, require_scenario
from bringup.daemon.settings.loading import load
from bringup.daemon.settings.model import Settings

__all__ = ["Settings", "load", "require_placement", "require_scenario"]
