"""The daemon's side of the status endpoint: what there is to tell, and the processes that tell it.

``recorder`` observes the run and ``event_feed`` keeps what happened for those who listen; ``source`` is all that
there is to tell.  :mod:`bringup.daemon.service.status_endpoint` opens the ``sockets``, ``listeners`` starts a process
for each, and ``channel`` carries to it what happens, in the form that ``mirror`` says.  That process is
:mod:`bringup.daemon.status.listener`.  Nothing here acts on an instance.  See docs/status.md.
"""
