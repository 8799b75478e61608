"""The status endpoint: how far the run is, for whoever asks.  See docs/status.md.

In the daemon ``recorder`` observes the run, ``service/status_endpoint`` opens the ``sockets``, ``listeners`` starts a
process for each, and ``channel`` carries to it what happens (``mirror`` says in which form).  That process is
``status/listener/start`` of what it does not need and then is ``status/listener/process``: ``event_feed`` keeps what
happened for those who listen; ``status/listener/documents`` and ``status/listener/metrics`` put it into words;
``status/listener/app`` answers requests; ``status/listener/server``, ``status/listener/accept``,
``status/listener/connection`` and ``status/listener/connection_slots`` carry them.  Nothing here acts on an instance.
"""
