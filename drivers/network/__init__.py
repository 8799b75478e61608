"""The host's network: NICs of guests (Linux bridge, Open vSwitch) and packet filtering (nftables).

``base`` has the seam that a driver uses.
"""

from bringup.drivers.network.base import Network

__all__ = ["Network"]
