"""Bring every virtual machine of a compute host back after the host booted.

The code (the folders stand at the top of the repository; this package only links to them): ``drivers`` talks to a
hypervisor, ``placement`` to the Placement API, and ``daemon`` has eight rooms.  None imports what stands above it:

* ``daemon/cli``: The command line: one module a command, each with ``add_to`` (its arguments) and ``execute`` (what it
  does).
* ``daemon/service``: The life of the process; besides ``cli`` the only room that reads settings.
* ``daemon/settings``: What an operator may set, and where credentials come from.
* ``daemon/recovery``: Carries out on this host what was decided: the run, one instance, the operations.
* ``daemon/openstack``: Clients of Nova's and Placement's services: conductor, scheduler, this host's resource
  provider.
* ``daemon/status``: Shows a run to people and machines: terminal, systemd, HTTP, metrics.
* ``daemon/storage``: What must survive a restart: records, journal, outbox, identity, login.
* ``daemon/decisions``: What is to be done with an instance: values, tables of rules and policies; no I/O, no clock, no
  logger.

Below them stand a few files that all may use: ``errors``, ``logs``, ``text``, ``tasks`` and their like.

The flow of ``bringup run``: settings, lock, identity, journal, Placement, driver, records, the plan, evacuated
instances destroyed, ``init_instance`` for all the others at once, and in a ``finally`` the report to the scheduler.

A reading order: ``daemon/decisions/`` (``from_record`` first), ``daemon/recovery/executor.py``,
``daemon/recovery/init_instance.py``, ``daemon/recovery/init_host.py``, ``daemon/service/process.py``.

To change what happens to an instance, edit ``daemon/decisions/``; how it is done, ``daemon/recovery/operations.py``;
what its failure means, ``daemon/decisions/on_failure.py``; when, ``daemon/recovery/init_host.py``; what an operator may
set, ``daemon/settings/model.py``; a new hypervisor, ``drivers/base.py`` first.
"""

__version__ = "0.1.0"
