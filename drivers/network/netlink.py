"""Links of this host, read and changed over netlink; ``rules/links`` computes the steps.

pyroute2's asynchronous calls need asyncio's loop; its synchronous ones bring a loop of their own, so they run in a
worker thread, under both of anyio's backends.  A call that hangs (the kernel's lock of all links can be held for long)
is abandoned at the deadline: its thread ends when the kernel answers, and its steps may have been repeated by then.
"""

import errno
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, assert_never

import anyio
import anyio.to_thread

from bringup.drivers.errors import DriverError, VirtualInterfacePlugError
from bringup.drivers.needs import LinkOrigin, MetBy, Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network.rules.links import (
    AddBridge,
    AddTap,
    AddVeth,
    DeleteLink,
    Link,
    LinkAbsent,
    LinkWanted,
    SetLink,
    Step,
    names_of,
    steps_to,
)
from bringup.drivers.network.rules.vifs import VifProblem

NO_PYROUTE2 = (
    "VIFs need pyroute2: in the checkout, /opt/bringup/bin/pip install '.[network]', or set network.plug_vifs = false"
)
# Calls that hang keep their thread; others must not wait for them.
THREADS = 8
IPV6_OFF = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"
TAP = 2
IFF_UP = 0x1
# The request is wrong; with any other error this host lacks something.
WRONG = frozenset(
    {errno.EINVAL, errno.ERANGE, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.ENAMETOOLONG, errno.EMSGSIZE}
)
NO_PERMISSION = "; give the daemon CAP_NET_ADMIN, as systemd/with-network/bringup.conf does"
# No permission, no module of the kernel, no /dev/net/tun.
FOR_OPERATOR = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOENT})

Given = TypeVar("Given")


class Netlink:
    """The links of the network namespace that the process is in."""

    def __init__(self, *, deadline_s: float) -> None:
        """Store the deadline of one call, however many VIFs it is for."""
        self._deadline_s = deadline_s
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def ensure(self, each: Sequence[Sequence[LinkWanted]]) -> Sequence[Exception | None]:
        """Create what is required, over one socket; return what failed for each, in order.

        :raises NeedNotMet: it did not end in time, so the state of all of them is unknown.
        """
        return await self._call(lambda: _ensure(each))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete links that may exist.

        :raises DriverError: that failed for one of them.
        """
        await self._call(lambda: _delete(names))

    async def _call(self, work: Callable[[], Given]) -> Given:
        try:
            with anyio.fail_after(self._deadline_s):
                return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except TimeoutError:
            raise _lacking(
                f"cannot change the links of this host: the kernel did not answer within {self._deadline_s:g} s",
                "links of this host",
                NeedState.UNVERIFIED,
            ) from None


def _ensure(each: Sequence[Sequence[LinkWanted]]) -> list[Exception | None]:
    with _opened() as ipr:
        return [_attempted(ipr, links) for links in each]


def _attempted(ipr: Any, links: Sequence[LinkWanted]) -> Exception | None:
    what, name = "read the links", links[0].name
    try:
        for step in steps_to(links, _read_links(ipr, names_of(links))):
            what, name = f"change the device {step.name}", step.name
            _carry_out(ipr, step)
    except VifProblem as problem:
        return problem
    except LinkAbsent as absent:
        return _lacking(str(absent), absent.name, NeedState.ABSENT, absent.made_by, origin=LinkOrigin())
    except _failures() as error:
        code = _code(error)
        failure: DriverError = VirtualInterfacePlugError(f"cannot {what}: the kernel refused")
        if code not in WRONG:
            met_by = MetBy.PERSON if code in FOR_OPERATOR else MetBy.HOST
            refused = f"the kernel refused{NO_PERMISSION if code == errno.EPERM else ''}"
            failure = _lacking(f"cannot {what}: {refused}", name, NeedState.UNVERIFIED, met_by)
        failure.__cause__ = error
        return failure
    return None


def _lacking(
    sentence: str, name: str, state: NeedState, met_by: MetBy = MetBy.HOST, *, origin: object = None
) -> NeedNotMet:
    need = Need(kind=NeedKind.NETWORK, name=name, state=state, met_by=met_by, why=sentence, origin=origin)
    return NeedNotMet(sentence, [need])


def _read_links(ipr: Any, names: Iterable[str]) -> Mapping[str, Link]:
    seen = {}
    for name in names:
        try:
            (message,) = ipr.link("get", ifname=name)
        except _failures() as error:
            if _code(error) != errno.ENODEV:
                raise
            continue
        master = message.get("master")
        seen[name] = Link(
            name=name,
            kind=message.get(("linkinfo", "kind")),
            master=None if master is None else socket.if_indextoname(master),
            mtu=message.get("mtu"),
            up=bool(message["flags"] & IFF_UP),
        )
    return seen


def _carry_out(ipr: Any, step: Step) -> None:
    match step:
        case AddBridge():
            _add(ipr, step.name, kind="bridge", br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0, mtu=step.mtu)
            _disable_addresses(ipr, step.name)
        case AddVeth():
            _add(ipr, step.name, kind="veth", peer=step.peer)
        case AddTap():
            _add(ipr, step.name, kind="tun", tun_type=TAP, tun_multi_queue=int(step.multi_queue))
            if step.silent:
                _disable_addresses(ipr, step.name)
            if step.mac is not None:
                ipr.link("set", index=_index(step.name), address=step.mac)
        case SetLink():
            values: dict[str, Any] = {"flags": IFF_UP, "change": IFF_UP}
            if step.master is not None:
                values["master"] = _index(step.master)
            if step.mtu is not None:
                values["mtu"] = step.mtu
            ipr.link("set", index=_index(step.name), **values)
        case DeleteLink():
            _delete_one(ipr, step.name)
        case _:
            assert_never(step)


def _disable_addresses(ipr: Any, name: str) -> None:
    """Keep a device from configuring an address for itself (as os-vif).

    Guests could reach the host by the address of a bridge; that of a tap with its guest's MAC is the guest's own.
    """
    none = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
    with suppress(*_failures()):
        # Fails where the kernel has no IPv6.
        ipr.link("set", index=_index(name), IFLA_AF_SPEC=none)
    with suppress(OSError):
        # Stronger, since it accepts none from a router either; a unit with ProtectKernelTunables= may not.
        Path(IPV6_OFF.format(name)).write_text("1", encoding="ascii")


def _add(ipr: Any, name: str, **values: Any) -> None:
    """Create a link; one that exists by now is fine."""
    try:
        ipr.link("add", ifname=name, **{key: value for key, value in values.items() if value is not None})
    except _failures() as error:
        if _code(error) != errno.EEXIST:
            raise


def _delete(names: Sequence[str]) -> None:
    with _opened() as ipr:
        for name in names:
            try:
                _delete_one(ipr, name)
            except _failures() as error:
                raise DriverError(f"cannot delete the device {name}") from error


def _delete_one(ipr: Any, name: str) -> None:
    try:
        ipr.link("del", index=_index(name))
    except _failures() as error:
        if _code(error) != errno.ENODEV:
            raise


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        # It comes without an errno.
        raise OSError(errno.ENODEV, "no such device", name) from error


def _code(error: Exception) -> int | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else getattr(error, "errno", None)


def _failures() -> tuple[type[Exception], ...]:
    from pyroute2 import NetlinkError  # noqa: PLC0415 - heavy, and an extra

    return (NetlinkError, OSError)


def _opened() -> Any:
    try:
        from pyroute2 import IPRoute  # noqa: PLC0415 - heavy, and an extra
    except ImportError as error:
        raise _lacking(NO_PYROUTE2, "pyroute2", NeedState.ABSENT, MetBy.PERSON) from error
    try:
        return IPRoute()
    except _failures() as error:
        raise _lacking("cannot open netlink to the kernel", "netlink", NeedState.UNVERIFIED) from error
