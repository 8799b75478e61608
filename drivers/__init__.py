"""Hypervisors: the protocol (:mod:`bringup.drivers.base`) and what implements it.

Nothing here imports the daemon or the Placement client: a driver is given a guest, not a record.
"""
