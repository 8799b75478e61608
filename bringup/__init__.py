"""Bring every virtual machine of a compute host back after the host booted.

The code, in five bullets (the folders stand at the top of the repository; this package only links to them):

* ``daemon/decisions`` and its neighbours ``actions``, ``instances``, ``states``, ``outcomes`` decide.  They are pure:
  no I/O, no clock, no logger.  What Nova's ``_init_instance`` does in 250 lines stands there as three tables.
* ``daemon/recovery/executor`` and ``daemon/recovery/operations`` act: one action at a time, on one instance.
* ``daemon/storage/store``, ``daemon/storage/journal``, ``daemon/storage/outbox/outbox`` remember: the records, what was
  done, and what the scheduler has yet to acknowledge.
* ``drivers`` talks to a hypervisor, ``placement`` to the Placement API, ``daemon/storage/outbox`` to the scheduler.
* ``daemon/recovery/init_host`` sets the order, ``daemon/service/process`` the life of the process, ``daemon/cli`` the
  command line.

The flow of ``bringup run``: settings, lock, identity, journal, Placement, driver, records, the plan, evacuated
instances destroyed, ``init_instance`` for all the others at once, and in a ``finally`` the report to the scheduler.

A reading order: ``daemon/decisions/`` (``from_record`` first), ``daemon/recovery/executor.py``,
``daemon/recovery/init_instance.py``, ``daemon/recovery/init_host.py``, ``daemon/service/process.py``.

To change what happens to an instance, edit ``daemon/decisions/``; how it is done, ``daemon/recovery/operations.py``;
what its failure means, ``daemon/decisions/on_failure.py``; when, ``daemon/recovery/init_host.py``; what an operator may
set, ``daemon/settings/model.py``; a new hypervisor, ``drivers/base.py`` first.
"""

__version__ = "0.1.0"
