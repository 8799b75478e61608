"""What a guest needs of its host before it is started, and whether it is there (``Driver.needs``).

* ``rules/definition``, ``rules/reading``, ``rules/names``, ``rules/volumes``, ``rules/identified``, ``rules/mounts``,
  ``rules/qcow2``, ``rules/backing``: what texts say; pure.
* ``host``, ``block``, ``knocking``, ``serving``: looks at this host and its storage; ``asking``: questions to libvirt.
* ``disks``, ``stores``, ``devices``: the verdicts; ``look``: all of it for one guest; ``rules/missing``: what a failed
  start was missing.
"""
