"""The status endpoint: how far the run is, for whoever asks.  See docs/status.md.

In the daemon ``recorder`` observes the run, ``endpoint`` opens the ``sockets``, ``keeping`` starts a process for each,
and ``channel`` carries to it what happens (``mirror`` says in which form).  That process is ``stripped`` of what it
does not need and then is ``listening``: ``feed`` keeps what happened for those who listen; ``documents`` and
``metrics`` put it into words; ``app`` answers requests; ``server``, ``accepting``, ``connection`` and ``places`` carry
them.  Nothing here acts on an instance.
"""
