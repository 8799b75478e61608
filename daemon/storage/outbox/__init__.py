"""Tell the scheduler what became of every instance, and never lose the telling.

* ``report`` turns outcomes into a report.  Pure.
* ``spool`` is the directory that reports wait in; ``outbox`` sends them in order, for as long as it takes.
* ``base`` is what a transport must do; ``openstack/scheduler_http`` is one.

Nothing here knows a driver or the store: the report is built from outcomes, never from the list that was loaded before
the run (Nova announces an instance again whose delete it just finished).
"""
