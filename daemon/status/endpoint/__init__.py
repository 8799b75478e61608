"""Daemon's side of the status endpoint: the data, and the processes that answer requests.

``recorder`` observes the run and ``event_feed`` keeps its events for clients; ``source`` is all the data.
:mod:`bringup.daemon.service.status_endpoint` opens the ``sockets``, ``listeners`` starts a process for the first
client of each, and ``channel`` carries the data to it, in the format of ``mirror``.  That process is
:mod:`bringup.daemon.status.listener`.
Nothing here acts on an instance.  See docs/status.md.
"""
