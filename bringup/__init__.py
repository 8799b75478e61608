"""Bring every virtual machine of a compute host back after the host booted.

The code, in five bullets (the folders stand at the top of the repository; this package only links to them):

* ``daemon/decisions`` and its neighbours ``actions``, ``instances``, ``states``, ``outcomes`` decide.  They are pure:
  no I/O, no clock, no logger.  What Nova's ``_init_instance`` does in 250 lines stands there as three tables.
* ``daemon/executor`` and ``daemon/operations`` act: one action at a time, on one instance.
* ``daemon/store``, ``daemon/journal``, ``daemon/scheduler/outbox`` remember: the records, what was done, and what the
  scheduler has yet to acknowledge.
* ``drivers`` talks to a hypervisor, ``placement`` to the Placement API, ``daemon/scheduler`` to the scheduler.
* ``daemon/init_host`` sets the order, ``daemon/service`` the life of the process, ``daemon/cli`` the command line.

The flow of ``bringup run``: settings, lock, identity, journal, Placement, driver, records, the plan, evacuated
instances destroyed, ``init_instance`` for all the others at once, and in a ``finally`` the report to the scheduler.

A reading order: ``daemon/decisions/`` (``from_record`` first), ``daemon/executor.py``, ``daemon/init_instance.py``,
``daemon/init_host.py``, ``daemon/service.py``.

To change what happens to an instance, edit ``daemon/decisions/``; how it is done, ``daemon/operations.py``; what its
failure means, ``daemon/reactions.py``; when, ``daemon/init_host.py``; what an operator may set,
``daemon/settings/model.py``; a new hypervisor, ``drivers/base.py`` first.
"""

__version__ = "0.1.0"
