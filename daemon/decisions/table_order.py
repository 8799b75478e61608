"""The tables that decide on an instance, in the order in which they are read."""

from collections.abc import Sequence
from typing import TypeAlias

from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_event import LIFECYCLE
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK, FROM_SECOND_LOOK
from bringup.daemon.decisions.from_other_host import FOREIGN
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.rules import Rule

Tables: TypeAlias = Sequence[Sequence[Rule] | None]
"""None: the power state of the guest is read here."""

OWN_TABLES: Tables = (FROM_RECORD, None, FROM_FIRST_LOOK, None, FROM_SECOND_LOOK)
"""For an instance whose record names this host."""
EVACUATED_TABLES: Tables = (EVACUATED,)
"""For a guest that is here although its instance was evacuated."""
FOREIGN_TABLES: Tables = (None, FOREIGN)
"""For a guest that is here although its record names another host."""
LIFECYCLE_TABLES: Tables = (None, LIFECYCLE)
"""For a lifecycle event."""
