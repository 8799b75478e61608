"""The process that answers at one listener of the status endpoint.

``start`` gives away what it does not need (``confinement``), then it is ``process``: ``app`` answers requests
(``request_guard`` before it); ``documents``, ``metrics``, ``streams`` and ``page`` put into words what
:mod:`bringup.daemon.status.endpoint.mirror` told; ``server``, ``accept``, ``connection`` and ``connection_slots``
carry them, ``cpu_share`` bounds what they cost.  See docs/status.md.
"""
