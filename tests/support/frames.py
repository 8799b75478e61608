"""Ethernet frames made byte by byte, and the tap by which a guest would send and receive them."""

import fcntl
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from support.process import PATIENCE_S

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
EVERYBODY = "ff:ff:ff:ff:ff:ff"
ARP, IPV4, IPV6, RARP, VLAN = 0x0806, 0x0800, 0x86DD, 0x8035, 0x8100
SHORTEST = 60
RESEND_S = 0.2
SYN, ACK, RST = 0x02, 0x10, 0x04
UDP, TCP, ICMP, ICMPV6 = socket.IPPROTO_UDP, socket.IPPROTO_TCP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of a MAC."""
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, kind: int, payload: bytes, *, to: str = EVERYBODY) -> bytes:
    """Make a frame."""
    return (mac_bytes(to) + mac_bytes(source) + struct.pack("!H", kind) + payload).ljust(SHORTEST, b"\0")


def arp(source: str, *, mac: str | None = None, ip: str, target: str = "10.0.0.99") -> bytes:
    """Make an ARP request of ``source`` in which ``mac`` says to have ``ip``."""
    sender = mac_bytes(mac or source) + IPv4Address(ip).packed
    return ethernet(
        source, ARP, struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + sender + bytes(6) + IPv4Address(target).packed
    )


def ipv4(source: str, ip: str, protocol: int, payload: bytes, *, to: str = "10.0.255.255", fragment: int = 0) -> bytes:
    """Make an IPv4 packet; ``fragment`` has the flags and the offset, in units of 8 bytes."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0)
    addresses = IPv4Address(ip).packed + IPv4Address(to).packed
    total = sum(struct.unpack("!10H", head + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", 0xFFFF - ((total & 0xFFFF) + (total >> 16)))
    return ethernet(source, IPV4, head[:10] + checksum + addresses + payload)


def ipv6(source: str, ip: str, protocol: int, payload: bytes, *, to: str = "ff02::1") -> bytes:
    """Make an IPv6 packet."""
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255)
    return ethernet(source, IPV6, head + IPv6Address(ip).packed + IPv6Address(to).packed + payload)


def udp(sport: int, dport: int, payload: bytes = b"") -> bytes:
    """Make a UDP datagram, without a checksum."""
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def tcp(sport: int, dport: int, flags: int) -> bytes:
    """Make a TCP segment."""
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, flags, 1024, 0, 0)


def icmp(kind: int, body: bytes = bytes(4)) -> bytes:
    """Make an ICMP message, of either version."""
    return struct.pack("!BBH", kind, 0, 0) + body


def echo_request(number: int) -> bytes:
    """Return an echo request (ICMP of IPv4) with its checksum, so that Linux answers."""
    sum_of_halves = 0x0800 + number
    return struct.pack("!BBHHH", 8, 0, 0xFFFF - sum_of_halves, 0, number)


def neighbour_advertisement(target: str) -> bytes:
    """Return the announcement of an address."""
    return icmp(136, bytes(4) + IPv6Address(target).packed)


def tagged(frame: bytes, vlan: int) -> bytes:
    """Put a VLAN tag into a frame."""
    return frame[:12] + struct.pack("!HH", VLAN, vlan) + frame[12:]


@dataclass(frozen=True)
class Tap:
    """The guest's end of a tap: what is written comes from the guest, what is read would reach it."""

    name: str
    fd: int

    @classmethod
    def open(cls, name: str) -> "Tap":
        """Make the tap as libvirt does; it is gone when it is closed, unless somebody made it to stay."""
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        return cls(name, fd)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    def send(self, *frames: bytes) -> None:
        """Send as the guest."""
        for frame in frames:
            os.write(self.fd, frame)

    def receive_until(self, last: bytes) -> list[bytes]:
        """Return all frames that reach the guest, in order, up to this one."""
        frames: list[bytes] = []
        until = time.monotonic() + PATIENCE_S
        while not frames or frames[-1] != last:
            left = max(0.0, until - time.monotonic())
            assert select.select([self.fd], [], [], left)[0], f"{self.name}: {last.hex()} did not come: {frames}"
            frames.append(self.receive())
        return frames

    def receive(self) -> bytes:
        """Return the next frame, which is there."""
        # A bridge that shows its packets to iptables cuts the padding off.
        return os.read(self.fd, 65536).ljust(SHORTEST, b"\0")


def reaches(sender: Tap, receiver: Tap, frame: bytes) -> bool:
    """Send a frame until it arrives: a switch in userspace takes its time to forward what its database has.

    For what must arrive; it gives up in the end.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        sender.send(frame)
        while select.select([receiver.fd], [], [], RESEND_S)[0]:
            if os.read(receiver.fd, 65536).ljust(SHORTEST, b"\0") == frame:
                return True
    return False


def what_passes(sender: Tap, receiver: Tap, frames: dict[str, bytes], *, honest: bytes) -> set[str]:
    """Send frames, an honest one after each; return the names of those that came before it.

    A bridge keeps the order, so what has not come by then does not come.
    """
    passed = set()
    for name, frame in frames.items():
        sender.send(frame, honest)
        if frame in receiver.receive_until(honest):
            passed.add(name)
    return passed
