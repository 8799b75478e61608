"""Delivery of reports to the scheduler; no report is lost.

* ``report`` turns outcomes into a report.  Pure.
* ``spool`` is the directory of waiting reports; ``outbox`` sends them in order, until they are acknowledged.
* ``base`` is the protocol of a transport; ``openstack/scheduler_http`` is one.

Nothing here uses a driver or the store: the report is built from outcomes, never from the list that was loaded before
the run (Nova announces an instance again whose delete it just finished).
"""
