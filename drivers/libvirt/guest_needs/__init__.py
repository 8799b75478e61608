"""What a guest needs of its host before it is started, and whether it is there (``Driver.needs``).

* ``rules/definition``, ``rules/disk_names``, ``rules/disk_identity``, ``rules/mounts``, ``rules/backing_files``: what
  texts say; pure.
* ``host``, ``block_devices``, ``disk_servers``: checks of this host and its storage; ``queries``: calls of libvirt.
* ``disks``, ``devices``: the verdicts, from the ``evidence``; ``check``: all of it for one guest.
"""
