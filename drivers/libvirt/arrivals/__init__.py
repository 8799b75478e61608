"""What guests wait for, watched instead of checked again and again.

``watch`` divides needs among the watchers: ``host_events`` (mounts, links, files, by the kernel), libvirt's events,
Open vSwitch's database, ``servers`` (network disks).  A watcher only wakes up: whether a need is met is checked as
always, so an event too many costs a check, and one too few is what the periodic check is for.
"""
