"""What is to be done with an instance: values, tables of rules and policies; no I/O, no clock, no logger.

House rules.  Everything that decides on an instance stands in this package, as much as possible in the tables; the rest
of the program cannot add a case.  Nothing here does anything: no I/O, no clock, no logger.  Who acts is
:mod:`bringup.daemon.recovery.executor`; what a failure means is :mod:`bringup.daemon.decisions.on_failure`.

Nova's ``_init_instance`` asks three questions, each a table:

* :data:`FROM_RECORD`: what the record alone says;
* :data:`FROM_FIRST_LOOK`: what the power state of the guest adds;
* :data:`FROM_SECOND_LOOK`: what is left when the above is done, with the power state read again.

More tables decide on evacuated instances (:data:`EVACUATED`), on guests that are here although their records name
another host (:data:`FOREIGN`) and on lifecycle events (:data:`LIFECYCLE`), and one says what follows where something is
missing that a guest needs (:mod:`bringup.daemon.decisions.from_needs`).

The order of the rows is meaning.  Every row that holds gives its actions; END stops the reading, of this table and of
those after it.  A row that saves changes what the rows after it see: :func:`decide` keeps the record as it will be.
"""
