"""Makes each call of libvirt that bringup makes, as user ``USER``, and tells which permissions polkit was asked for.

``libvirt_calls_child.py USER LOG``, in the PID namespace of the libvirtd: one line of JSON, by call.  LOG is where
polkit writes what it is asked, before it answers.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from support.records import uuid_of

URI = "qemu:///system"
ASKED = re.compile(r"^asked org\.libvirt\.api\.(\S+)$", re.MULTILINE)
POOL, VOLUME, NETWORK, SECRET = "pool-1", "volume-1", "network-1", "6d1a2b3c-0000-4000-8000-000000000001"


def _ignore(*_: object) -> None:
    """Hear nothing."""


def calls(connection: Any) -> dict[str, Callable[[], object]]:
    """Return every call, each of which may fail once it was allowed; those that end a guest last."""
    domain = connection.lookupByUUIDString(uuid_of(1))
    running = connection.lookupByUUIDString(uuid_of(2))
    pool = connection.storagePoolLookupByName(POOL)
    volume = pool.storageVolLookupByName(VOLUME)
    network = connection.networkLookupByName(NETWORK)
    definition = domain.XMLDesc()
    cpu = "<cpu><arch>x86_64</arch><model>qemu64</model></cpu>"
    numbers: list[int] = []
    return {
        "Connection.listAllDomains": connection.listAllDomains,
        "Connection.lookupByUUIDString": lambda: connection.lookupByUUIDString(uuid_of(1)),
        "Connection.getInfo": connection.getInfo,
        "Connection.getCapabilities": connection.getCapabilities,
        "Connection.getDomainCapabilities": connection.getDomainCapabilities,
        "Connection.getCPUMap": connection.getCPUMap,
        "Connection.baselineCPU": lambda: connection.baselineCPU([cpu]),
        "Connection.listAllNetworks": connection.listAllNetworks,
        "Connection.networkLookupByName": lambda: connection.networkLookupByName(NETWORK),
        "Connection.listAllStoragePools": connection.listAllStoragePools,
        "Connection.storagePoolLookupByName": lambda: connection.storagePoolLookupByName(POOL),
        "Connection.secretLookupByUUIDString": lambda: connection.secretLookupByUUIDString(SECRET),
        "Connection.secretLookupByUsage": lambda: connection.secretLookupByUsage(
            libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "c"
        ),
        "Connection.domainEventRegisterAny": lambda: connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _ignore, None
        ),
        "Connection.domainListGetStats": lambda: connection.domainListGetStats(
            [running], libvirt.VIR_DOMAIN_STATS_VCPU, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        ),
        "Connection.domainEventDeregisterAny": lambda: connection.domainEventDeregisterAny(0),
        "Connection.networkEventRegisterAny": lambda: numbers.append(
            connection.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, _ignore, None)
        ),
        "Connection.networkEventDeregisterAny": lambda: connection.networkEventDeregisterAny(numbers.pop()),
        "Connection.storagePoolEventRegisterAny": lambda: numbers.append(
            connection.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, _ignore, None)
        ),
        "Connection.storagePoolEventDeregisterAny": lambda: connection.storagePoolEventDeregisterAny(numbers.pop()),
        "Connection.registerCloseCallback": lambda: connection.registerCloseCallback(_ignore, None),
        "Connection.unregisterCloseCallback": connection.unregisterCloseCallback,
        "Connection.setKeepAlive": lambda: connection.setKeepAlive(5, 3),
        "Connection.isAlive": connection.isAlive,
        "Network.name": network.name,
        "Network.isActive": network.isActive,
        "StoragePool.name": pool.name,
        "StoragePool.isActive": pool.isActive,
        "StoragePool.XMLDesc": pool.XMLDesc,
        "StoragePool.storageVolLookupByName": lambda: pool.storageVolLookupByName(VOLUME),
        "StorageVolume.info": volume.info,
        "StorageVolume.path": volume.path,
        "Domain.UUIDString": domain.UUIDString,
        "Domain.ID": domain.ID,
        "Domain.name": domain.name,
        "Domain.state": domain.state,
        "Domain.isPersistent": domain.isPersistent,
        "Domain.hasManagedSaveImage": domain.hasManagedSaveImage,
        "Domain.XMLDesc": domain.XMLDesc,
        "Domain.XMLDesc (secure)": lambda: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE),
        "Domain.managedSaveGetXMLDesc": domain.managedSaveGetXMLDesc,
        "Domain.diskErrors": running.diskErrors,
        "Domain.blockInfo": lambda: running.blockInfo("fda"),
        "Domain.blockJobInfo": lambda: running.blockJobInfo("fda"),
        "Domain.autostart": domain.autostart,
        "Domain.autostartOnce": getattr(domain, "autostartOnce", domain.autostart),
        "Domain.blockJobAbort": lambda: running.blockJobAbort("fda"),
        "Domain.abortJob": running.abortJob,
        "Domain.setAutostart": lambda: domain.setAutostart(0),
        "Domain.setAutostartOnce": lambda: getattr(domain, "setAutostartOnce", domain.setAutostart)(0),
        "Domain.resume": running.resume,
        "Domain.pMWakeup": running.pMWakeup,
        "Domain.shutdown": running.shutdown,
        "Domain.destroy": running.destroy,
        "Domain.create": running.create,
        "Domain.createWithFlags": lambda: domain.createWithFlags(0),
        "Connection.defineXML": lambda: connection.defineXML(definition),
        "Domain.undefineFlags": domain.undefineFlags,
        "Connection.close": connection.close,
    }


def main(user: int, log: Path) -> None:
    """Call, and tell."""
    os.setgid(user)
    os.setuid(user)
    libvirt.registerErrorHandler(_ignore, None)
    libvirt.virEventRegisterDefaultImpl()
    told: dict[str, Any] = {}

    def record(name: str, call: Callable[[], object]) -> object:
        before = log.stat().st_size
        result = refused = None
        try:
            result = call()
        except libvirt.libvirtError as error:
            refused = error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED
        with log.open("rb") as file:
            file.seek(before)
            told[name] = [sorted(set(ASKED.findall(file.read().decode(errors="replace")))), not refused]
        return result

    connection = record("Connection.open", lambda: libvirt.open(URI))
    for name, call in calls(connection).items():
        record(name, call)
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(told))  # noqa: T201 - this is what it is for


main(int(sys.argv[1]), Path(sys.argv[2]))
