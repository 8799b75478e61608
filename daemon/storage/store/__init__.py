"""Stores of records: the protocol (:mod:`bringup.daemon.storage.store.base`) and its implementations over SQL."""
