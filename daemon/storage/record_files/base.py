"""What a file of records holds."""

from dataclasses import dataclass

from bringup.daemon.decisions.instances import Instance, Migration


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Instances and migrations, each UUID once, in the order of the file."""

    instances: tuple[Instance, ...] = ()
    migrations: tuple[Migration, ...] = ()
