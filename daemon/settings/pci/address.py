"""PCI addresses, and Nova's two ways to name a set of them: a string with wildcards, a table of regular expressions."""

import re
import string
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bringup.daemon.settings.pci.problems import PciProblems

ANY = "*"
LARGEST = {"domain": 0xFFFF, "bus": 0xFF, "slot": 0x1F, "function": 0x7}
DIGITS = {"domain": 4, "bus": 2, "slot": 2, "function": 1}
WHOLE_ADDRESS = 'an address such as "0000:0a:00.1", "*:0a:00.*", ":0a:00." or a table of regular expressions'


@dataclass(frozen=True, slots=True)
class PciAddress:
    """Where a device is; each part in lower-case hexadecimal digits, filled up with zeros."""

    domain: str
    bus: str
    slot: str
    function: str

    @classmethod
    def parse(cls, text: str) -> "PciAddress":
        """Read ``0000:0a:00.1``.  Raises ``ValueError`` for anything else."""
        place, _, function = text.partition(".")
        parts = [*place.split(":"), function]
        if len(parts) != len(DIGITS):
            raise ValueError(f"{text!r} is no PCI address: it must look like 0000:0a:00.1")
        # No largest domain here: Intel's VMD devices have domains of five digits, and only a wildcard names them.
        return cls(*(f"{int(part, 16):0{digits}x}" for part, digits in zip(parts, DIGITS.values(), strict=True)))

    def __str__(self) -> str:
        """Write it as the kernel does."""
        return f"{self.domain}:{self.bus}:{self.slot}.{self.function}"


class AddressPattern(Protocol):
    """Names a set of addresses."""

    def matches(self, address: PciAddress) -> bool:
        """Check whether the address is in the set."""
        ...

    def single_address(self) -> str | None:
        """Return the address that this names; None: it names a set."""
        ...


@dataclass(frozen=True, slots=True)
class GlobAddress:
    """Each part is ``*`` or one value."""

    domain: str = ANY
    bus: str = ANY
    slot: str = ANY
    function: str = ANY

    def matches(self, address: PciAddress) -> bool:
        """Compare part by part; ``*`` is every value."""
        return all(wanted in (ANY, found) for wanted, found in zip(_parts(self), _parts(address), strict=True))

    def single_address(self) -> str | None:
        """Return the address if no part is a wildcard."""
        return _single(*_parts(self))


@dataclass(frozen=True, slots=True)
class RegexAddress:
    """Each part is a regular expression; as in Nova it must match at the start of the part, not all of it."""

    domain: re.Pattern[str]
    bus: re.Pattern[str]
    slot: re.Pattern[str]
    function: re.Pattern[str]

    def matches(self, address: PciAddress) -> bool:
        """Match part by part."""
        return all(wanted.match(found) for wanted, found in zip(self._patterns(), _parts(address), strict=True))

    def single_address(self) -> str | None:
        """Return the address if every expression is just hexadecimal digits."""
        return _single(*(pattern.pattern for pattern in self._patterns()))

    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return (self.domain, self.bus, self.slot, self.function)


def parse_address(value: Any, problems: PciProblems) -> AddressPattern:
    """Read what stands under ``address``; what is wrong goes to ``problems``.

    As in Nova an empty value of any type (``""``, ``{}``, ``null``, ``0``) is the same as none: every address.
    """
    if not value:
        return GlobAddress()
    if isinstance(value, str):
        return _glob(value, problems)
    if isinstance(value, Mapping):
        return RegexAddress(**{part: _regex(part, value.get(part, ".*"), problems) for part in DIGITS})
    problems.add(value, right=WHOLE_ADDRESS)
    return GlobAddress()


def parse_hexadecimal(text: str, *, digits: int, largest: int) -> str | None:
    """Write ``*`` or a hexadecimal number in the way that devices are written; None where it is neither.

    Nova takes spaces around it, an ``0x`` before it, and a number below zero (which then matches no device).
    """
    if text == ANY:
        return ANY
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return f"{number:0{digits}x}" if number <= largest else None


def _glob(text: str, problems: PciProblems) -> GlobAddress:
    place, _, function = text.partition(".")
    fields = place.split(":")
    if len(fields) > len(DIGITS) - 1:
        problems.add(text, right=WHOLE_ADDRESS)
        return GlobAddress()
    # Parts left off or left blank are wildcards, from the left: ":00." is a slot.  A blank function is none: Nova
    # takes "00." for every function and refuses "00. ".
    missing = [ANY] * (len(DIGITS) - 1 - len(fields))
    written = [*missing, *(field.strip() or ANY for field in fields), function.strip() if function else ANY]
    return GlobAddress(*(_glob_part(part, value, problems) for part, value in zip(DIGITS, written, strict=True)))


def _glob_part(part: str, value: str, problems: PciProblems) -> str:
    number = parse_hexadecimal(value, digits=DIGITS[part], largest=LARGEST[part])
    if number is None:
        with problems.inside(f".{part}"):
            problems.add(value, right=f'"*" or a hexadecimal number up to {LARGEST[part]:x}')
    return number or ANY


def _regex(part: str, value: Any, problems: PciProblems) -> re.Pattern[str]:
    with problems.inside(f".{part}"):
        if not isinstance(value, str):
            problems.add(value, right="a string with a regular expression")
            return re.compile("")
        try:
            # Python warns of expressions that a later version may read otherwise; they are valid now.
            with warnings.catch_warnings(action="ignore"):
                return re.compile(value)
        except (re.error, ValueError, OverflowError, RecursionError):
            problems.add(value, right="a valid regular expression")
            return re.compile("")


def _parts(address: PciAddress | GlobAddress) -> tuple[str, ...]:
    return (address.domain, address.bus, address.slot, address.function)


def _single(domain: str, bus: str, slot: str, function: str) -> str | None:
    if not set(domain + bus + slot + function) <= set(string.hexdigits):
        return None
    return f"{domain}:{bus}:{slot}.{function}"
