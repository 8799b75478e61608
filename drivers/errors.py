"""What a driver raises where the caller reacts to the difference."""


class DriverError(Exception):
    """A hypervisor could not do what it was asked to."""


class InstanceNotFound(DriverError):
    """The hypervisor has no such guest."""


class NotBegun(DriverError):
    """It was not begun: nothing of the guest was touched, and nothing is wrong with it that is known."""


class AutostartConflict(DriverError):
    """Something else on this host starts the same guests: going on could do harm."""


class VirtualInterfacePlugError(DriverError):
    """A NIC of the guest could not be made ready (Nova's ``VirtualInterfacePlugException``)."""


class PciDeviceNotFound(DriverError):
    """A PCI device of the guest is not on this host (Nova's ``PciDeviceNotFoundById``)."""


class InstancePowerOffFailure(DriverError):
    """The guest could not be powered off."""
