"""Where the records are: the protocol (:mod:`bringup.daemon.storage.store.base`) and what implements it."""
