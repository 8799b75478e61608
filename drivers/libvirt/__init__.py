"""QEMU guests through libvirt (extra ``bringup[libvirt]``); ``docs/libvirt.md`` is for operators.

* ``driver``: the verbs; ``power``, ``local_disks``, ``disks``, ``repairs``, ``traits``: what they do.
* ``binding``: libvirt's Python module, imported late; ``errors``: what its errors mean, in one table.
* ``threads``, ``connections``, ``hypervisor``: a blocking call has a thread, a deadline and a connection; after a lost
  connection a verb starts again by reading the state of its guest.
* ``guest_needs``: what a guest needs before it is started; ``start``: one start, and what it means that it was refused.
* ``event_listener``: lifecycle events; ``autostart_conflicts``: what else starts guests here.
"""
