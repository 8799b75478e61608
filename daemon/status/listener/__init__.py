"""Process that answers at one listener of the status endpoint.

``start`` drops its privileges (``confinement``) and becomes ``process``: ``app`` answers requests (``request_guard``
before it); ``documents``, ``metrics``, ``streams`` and ``page`` make the answers of the copy of the source
(:mod:`bringup.daemon.status.endpoint.mirror`); ``server``, ``accept``, ``connection`` and ``connection_slots`` serve
them, ``cpu_share`` bounds their cost.  See docs/status.md.
"""
