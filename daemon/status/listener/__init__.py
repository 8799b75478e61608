"""Process that answers at one listener of the status endpoint.

``start`` drops its privileges (``confinement``) and becomes ``process``, which bounds its own share of a processor.
``app`` answers requests; ``documents``, ``metrics``, ``streams`` and ``page`` make the answers of the copy of the
source (:mod:`bringup.daemon.status.endpoint.mirror`); ``server``, ``connection`` and ``connection_slots`` serve them.
See docs/status.md.
"""
