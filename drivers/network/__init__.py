"""The host's network: NICs of guests (Linux bridge, Open vSwitch) and packet filtering (nftables).

A hypervisor's driver uses ``host``.  Pure functions compute what there should be (``rules/vifs``, ``rules/vif_types``,
``rules/links``: NICs; ``rules/addresses``, ``rules/spoofing``, ``rules/port_filter``, ``rules/ruleset``: packets);
a thin shell does it (``netlink``, ``ovs``, ``plugging``, ``firewall``).
"""
