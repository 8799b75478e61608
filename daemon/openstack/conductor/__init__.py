"""The store of an OpenStack cloud: Nova's own records, read and written through nova-conductor.

* :mod:`.calls`: the methods of Nova's objects that are called, one request each.
* :mod:`.decoding`: what comes back, made into our records; pure.
* :mod:`.reading`, :mod:`.migrations`: many of them at once, each row by itself.
* :mod:`.store`: the :class:`bringup.daemon.storage.store.base.Store` over all of them.
"""

from bringup.daemon.openstack.conductor.store import NovaConductorStore

__all__ = ["NovaConductorStore"]
