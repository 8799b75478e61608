"""What a guest needs of its host before it is started, and whether it is there (``Driver.needs``).

* ``definition``, ``names``, ``volumes``, ``identified``, ``mounts``, ``qcow2``: what texts say, as values; pure.
* ``host``, ``block``: looks at this host; ``asking``: questions to libvirt.
* ``disks``, ``devices``: the verdicts; ``look``: all of it for one guest; ``missing``: what a failed start was missing.
"""
