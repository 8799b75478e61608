"""The status endpoint: how far the run is, for whoever asks.  See docs/status.md.

``recorder`` observes the run; ``feed`` keeps what happened for those who listen; ``documents`` and ``metrics`` put it
into words; ``app`` answers requests; ``sockets`` and ``server`` carry them.  Nothing here acts on an instance.
"""
