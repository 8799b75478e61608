"""The store of an OpenStack cloud: Nova's own records, read and written through nova-conductor.

* :mod:`.conductor`: the methods of Nova's objects that are called, one request each.
* :mod:`.decoding`: what comes back, made into our records; pure.
* :mod:`.reading`, :mod:`.migrations`: many of them at once, each row by itself.
* :mod:`.store`: the :class:`bringup.daemon.store.base.Store` over all of them.
"""

from bringup.daemon.store.nova_conductor.store import NovaConductorStore

__all__ = ["NovaConductorStore"]
