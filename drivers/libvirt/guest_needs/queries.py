"""Queries to libvirt about a guest's needs, in one call.  Blocks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from xml.etree import ElementTree as ET

from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.guest_needs.evidence import LibvirtAnswers
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.rules.definition import Definition, Machine, SecretName, read_definition
from bringup.drivers.libvirt.hypervisor import is_active

KEEPS_S: Final = 60.0
"""How long the answer about a machine type is kept: QEMU is not removed while guests start."""
NOT_PERMITTED: Final = "VIR_ERR_ACCESS_DENIED"
"""This user may not query it: then no verdict on the machine is possible."""
VOLUME_TYPES: Final = ("file", "block", "dir", "network", "netdir", "ploop")


class Queries:
    """Queries about one guest."""

    def __init__(self, connection: Connection, libvirt: Any, host: HostFiles) -> None:
        """Store the connection, and the ``host`` that keeps the answers that are the same for all guests."""
        self._connection = connection
        self._libvirt = libvirt
        self._host = host
        self._found: dict[tuple[str, str], str] = {}

    def answers(self, uuid: str) -> LibvirtAnswers:
        """Query all that the check of a guest needs.

        :raises libvirtError: there is no such guest, or no connection.
        """
        domain = self._connection.lookupByUUIDString(uuid)
        active = is_active(domain)
        definitions = tuple(self._definitions(domain, active=active))
        volumes: dict[tuple[str, str], tuple[str, str]] = {}
        for definition in definitions:
            self._query_machine(definition.machine)
            for secret in definition.secrets:
                self._query_secret(secret)
            for nic in definition.nics:
                if nic.type == "network":
                    self._query_network(nic.source)
            for source in (source for disk in definition.disks for source in disk.sources):
                if source.type == "volume":
                    self._query_volume(source.pool, source.volume, volumes)
        pinned = any(definition.pins for definition in definitions)
        return LibvirtAnswers(
            definitions=definitions,
            active=active,
            answers=self._found,
            volumes=volumes,
            idle_pools=self._host.kept("idle pools", self._idle_pools),
            online=self._online() if pinned else frozenset(),
        )

    def _raise_if_lost(self, error: Exception) -> None:
        """Raise an error again if the connection broke: it is no answer then."""
        if not self._connection.isAlive():
            raise error

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        """Ignore an error of libvirt inside the block, unless the connection broke."""
        try:
            yield
        except self._libvirt.libvirtError as error:
            self._raise_if_lost(error)

    def _definitions(self, domain: Domain, *, active: bool) -> Iterator[Definition]:
        yield read_definition(domain.XMLDesc(self._libvirt.VIR_DOMAIN_XML_INACTIVE))
        if not active and domain.hasManagedSaveImage():
            # One that cannot be read is reported when the guest is started.
            with self._tolerated(), suppress(AttributeError, ValueError):
                yield read_definition(domain.managedSaveGetXMLDesc())

    def _query_machine(self, machine: Machine) -> None:
        if not machine.emulator:
            return
        self._found["machine", f"{machine}"] = self._host.kept(
            f"{machine}", lambda: self._machine(machine), keeps_s=KEEPS_S
        )

    def _machine(self, machine: Machine) -> str:
        asked = (machine.emulator, machine.arch or None, machine.machine or None, machine.type)
        try:
            self._connection.getDomainCapabilities(*asked)
        except self._libvirt.libvirtError as error:
            self._raise_if_lost(error)
            codes = ("VIR_ERR_NO_SUPPORT", "VIR_ERR_NO_CONNECT", "VIR_ERR_RPC", "VIR_ERR_INVALID_CONN", NOT_PERMITTED)
            if error.get_error_code() in [getattr(self._libvirt, code) for code in codes]:
                return ""
            return error.get_error_message() or "libvirt does not know it"
        return ""

    def _query_secret(self, secret: SecretName) -> None:
        usages = {
            "volume": self._libvirt.VIR_SECRET_USAGE_TYPE_VOLUME,
            "ceph": self._libvirt.VIR_SECRET_USAGE_TYPE_CEPH,
            "iscsi": self._libvirt.VIR_SECRET_USAGE_TYPE_ISCSI,
            "tls": self._libvirt.VIR_SECRET_USAGE_TYPE_TLS,
            "vtpm": self._libvirt.VIR_SECRET_USAGE_TYPE_VTPM,
        }
        try:
            if secret.uuid:
                self._connection.secretLookupByUUIDString(secret.uuid)
            else:
                self._connection.secretLookupByUsage(usages.get(secret.type, 0), secret.usage)
        except self._libvirt.libvirtError as error:
            self._raise_if_lost(error)
            if error.get_error_code() == self._libvirt.VIR_ERR_NO_SECRET:
                self._found["secret", secret.uuid or secret.usage] = "libvirt has no such secret"

    def _query_network(self, name: str) -> None:
        try:
            active = self._connection.networkLookupByName(name).isActive()
        except self._libvirt.libvirtError as error:
            self._raise_if_lost(error)
            if error.get_error_code() == self._libvirt.VIR_ERR_NO_NETWORK:
                self._found["network", name] = "libvirt has no such network"
        else:
            if not active:
                self._found["network", name] = f"the network is not active; virsh net-start {name}"

    def _query_volume(self, pool: str, volume: str, found: dict[tuple[str, str], tuple[str, str]]) -> None:
        try:
            there = self._connection.storagePoolLookupByName(pool)
            if not there.isActive():
                self._found["pool", pool] = f"the pool is not active; virsh pool-start {pool}"
                return
        except self._libvirt.libvirtError as error:
            self._raise_if_lost(error)
            if error.get_error_code() == self._libvirt.VIR_ERR_NO_STORAGE_POOL:
                self._found["pool", pool] = "libvirt has no such pool"
            else:
                self._found["pool", pool] = "libvirt does not report its pools"
            return
        with self._tolerated():
            it = there.storageVolLookupByName(volume)
            found[pool, volume] = VOLUME_TYPES[it.info()[0]], it.path()

    def _idle_pools(self) -> dict[str, str]:
        """Return the folders of libvirt's pools that are not mounted, with the names of the pools."""
        flags = (
            self._libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE
            | self._libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_FS
            | self._libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_NETFS
        )
        found: dict[str, str] = {}
        with self._tolerated():
            for pool in self._connection.listAllStoragePools(flags):
                path = ET.fromstring(pool.XMLDesc()).findtext("./target/path", "")  # noqa: S314 - libvirt's own
                if path.startswith("/") and path.rstrip("/"):
                    found[path.rstrip("/")] = pool.name()
        return found

    def _online(self) -> frozenset[int]:
        cpus: Sequence[bool] = ()
        with self._tolerated():
            cpus = self._connection.getCPUMap()[1]
        return frozenset(number for number, online in enumerate(cpus) if online)
