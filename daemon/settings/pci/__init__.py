"""Which PCI devices of this host guests may be given: Nova's ``[pci] device_spec``.

``spec`` and ``address`` are pure: an entry goes in, specs or one ``InvalidDeviceSpec`` come out.  What only the kernel
knows (is this a physical function, where is this interface) is a function that the caller passes; ``sysfs`` has the
real ones.  The rules are those of Nova 15; where Nova ends in a bare TypeError, here it is ``InvalidDeviceSpec``.
"""

from bringup.daemon.settings.pci.address import PciAddress
from bringup.daemon.settings.pci.spec import DeviceSpec, InvalidDeviceSpec, PciDevice, parse_device_spec

__all__ = ["DeviceSpec", "InvalidDeviceSpec", "PciAddress", "PciDevice", "parse_device_spec"]
