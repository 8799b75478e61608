"""Errors of a driver: one class for each reaction of the caller."""


class DriverError(Exception):
    """A hypervisor could not carry out a request."""


class InstanceNotFound(DriverError):
    """The hypervisor has no such guest."""


class NotBegun(DriverError):
    """It was not started: nothing of the guest was touched, and no problem of the guest is known."""


class AutostartConflict(DriverError):
    """Another program of this host starts the same guests: a run could do harm."""


class VirtualInterfacePlugError(DriverError):
    """A NIC of the guest could not be made ready (Nova's ``VirtualInterfacePlugException``)."""


class PciDeviceNotFound(DriverError):
    """A PCI device of the guest is not on this host (Nova's ``PciDeviceNotFoundById``)."""


class InstancePowerOffFailure(DriverError):
    """The guest could not be powered off."""
