"""Where the records are: the protocol (:mod:`bringup.daemon.store.base`) and what implements it."""
