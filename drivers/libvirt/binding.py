"""libvirt's own Python binding, imported when a driver is made, and what of it is used, as types.

It has neither wheels nor types.  Two things of it are the process': its error handler, which writes to standard error
until it is replaced, and its event loop, which must run before a connection is opened that is to be kept alive.

Nothing of libvirt is called that is not here.  What each call wants of its access control stands in docs/libvirt.md
and in the rules in polkit/; a test compares the three.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

NEEDS = (
    "the driver for libvirt needs libvirt-python: install Debian's python3-libvirt and make the virtual environment "
    "with --system-site-packages, or build it in the checkout (/opt/bringup/bin/pip install '.[libvirt]'; packages "
    "libvirt-dev, pkg-config, gcc and python3-dev)"
)


class Domain(Protocol):
    """A guest that a connection has: ``virDomain``."""

    def UUIDString(self) -> str: ...  # noqa: D102, N802 - libvirt's own, as all below
    def name(self) -> str: ...  # noqa: D102
    def state(self) -> list[int]: ...  # noqa: D102
    def isActive(self) -> int: ...  # noqa: D102, N802
    def isPersistent(self) -> int: ...  # noqa: D102, N802
    def hasManagedSaveImage(self) -> int: ...  # noqa: D102, N802
    def XMLDesc(self, flags: int = 0) -> str: ...  # noqa: D102, N802
    def managedSaveGetXMLDesc(self, flags: int = 0) -> str: ...  # noqa: D102, N802
    def blockInfo(self, path: str, flags: int = 0) -> list[int]: ...  # noqa: D102, N802
    def create(self) -> int: ...  # noqa: D102
    def createWithFlags(self, flags: int = 0) -> int: ...  # noqa: D102, N802
    def shutdown(self) -> int: ...  # noqa: D102
    def destroy(self) -> int: ...  # noqa: D102
    def suspend(self) -> int: ...  # noqa: D102
    def resume(self) -> int: ...  # noqa: D102
    def pMWakeup(self) -> int: ...  # noqa: D102, N802
    def undefineFlags(self, flags: int = 0) -> int: ...  # noqa: D102, N802
    def abortJob(self) -> int: ...  # noqa: D102, N802
    def blockJobInfo(self, disk: str) -> dict[str, int]: ...  # noqa: D102, N802
    def blockJobAbort(self, disk: str) -> int: ...  # noqa: D102, N802
    def autostart(self) -> int: ...  # noqa: D102
    def setAutostart(self, autostart: int) -> int: ...  # noqa: D102, N802
    def autostartOnce(self) -> int: ...  # noqa: D102, N802 - libvirt 11.2
    def setAutostartOnce(self, autostart: int) -> int: ...  # noqa: D102, N802 - libvirt 11.2


class Network(Protocol):
    """A virtual network: ``virNetwork``."""

    def isActive(self) -> int: ...  # noqa: D102, N802


class StorageVolume(Protocol):
    """A disk in a storage pool: ``virStorageVol``."""

    def info(self) -> list[int]: ...  # noqa: D102
    def path(self) -> str: ...  # noqa: D102


class StoragePool(Protocol):
    """A storage pool: ``virStoragePool``."""

    def name(self) -> str: ...  # noqa: D102
    def isActive(self) -> int: ...  # noqa: D102, N802
    def XMLDesc(self, flags: int = 0) -> str: ...  # noqa: D102, N802
    def storageVolLookupByName(self, name: str) -> StorageVolume: ...  # noqa: D102, N802


class Connection(Protocol):
    """A connection to a hypervisor: ``virConnect``."""

    def close(self) -> int: ...  # noqa: D102
    def isAlive(self) -> int: ...  # noqa: D102, N802
    def setKeepAlive(self, interval: int, count: int) -> int: ...  # noqa: D102, N802
    def lookupByUUIDString(self, uuid: str) -> Domain: ...  # noqa: D102, N802
    def listAllDomains(self, flags: int = 0) -> list[Domain]: ...  # noqa: D102, N802
    def defineXML(self, xml: str) -> Domain: ...  # noqa: D102, N802
    def listAllNetworks(self, flags: int = 0) -> list[Network]: ...  # noqa: D102, N802
    def getInfo(self) -> list[Any]: ...  # noqa: D102, N802
    def getCapabilities(self) -> str: ...  # noqa: D102, N802
    def getDomainCapabilities(  # noqa: D102, N802
        self,
        emulatorbin: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
    ) -> str: ...
    def getCPUMap(self, flags: int = 0) -> tuple[int, list[bool], int]: ...  # noqa: D102, N802
    def secretLookupByUUIDString(self, uuid: str) -> object: ...  # noqa: D102, N802
    def secretLookupByUsage(self, usageType: int, usageID: str) -> object: ...  # noqa: D102, N802, N803
    def networkLookupByName(self, name: str) -> Network: ...  # noqa: D102, N802
    def storagePoolLookupByName(self, name: str) -> StoragePool: ...  # noqa: D102, N802
    def listAllStoragePools(self, flags: int = 0) -> list[StoragePool]: ...  # noqa: D102, N802
    def baselineCPU(self, xml: list[str], flags: int = 0) -> str: ...  # noqa: D102, N802
    def registerCloseCallback(self, call: Callable[..., None], opaque: object) -> int: ...  # noqa: D102, N802
    def unregisterCloseCallback(self) -> int: ...  # noqa: D102, N802
    def domainEventRegisterAny(  # noqa: D102, N802
        self, domain: Domain | None, event: int, call: Callable[..., None], opaque: object
    ) -> int: ...
    def domainEventDeregisterAny(self, number: int) -> int: ...  # noqa: D102, N802


_once = threading.Lock()


@cache
def binding() -> Any:
    """Import libvirt, quieten it and start its event loop; the same each time.

    :raises ImportError: it is not installed; the text says what to install.
    """
    with _once:
        return _load()


@cache
def _load() -> Any:
    try:
        import libvirt  # noqa: PLC0415 - an extra, and it is slow to import
    except ImportError as error:
        raise ImportError(NEEDS) from error
    # Each error is raised too.
    libvirt.registerErrorHandler(_say_nothing, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, args=(libvirt,), name="libvirt-events", daemon=True).start()
    return libvirt


def _say_nothing(_opaque: object, _error: object) -> None:
    """Write nothing to standard error."""


def _run_events(libvirt: Any) -> None:
    while True:
        with suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()
