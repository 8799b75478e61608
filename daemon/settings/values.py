"""Kinds of value that settings have: how each is parsed and, in words, what would be right."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr

from bringup.daemon.settings.name_template import why_not
from bringup.daemon.settings.pci import DeviceSpec, InvalidDeviceSpec, parse_device_spec
from bringup.daemon.storage.store.database_url import POSTGRESQL, parse_database_url
from bringup.daemon.text import VISIBLE
from bringup.daemon.time_spans import seconds_of
from bringup.drivers.identifiers import is_device_name, uuid_in_any_spelling
from bringup.drivers.kinds import Right, WrongEntries

SQLITE = "sqlite:///"
NOVA_CONDUCTOR = "nova-conductor:"
LONGEST_ADDRESS = 2000
HOST_AND_PORT = re.compile(
    r"(?:\[(?P<six>[^\[\]]+)\]|(?P<name>(?=[^:]{1,254}(?::|$))(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?))"
    r"(?::[0-9]{0,5})?"
)
"""What libraries agree on; beyond it one takes for a name what another takes for an address, or for nothing."""
DOTTED = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
ADDRESS = 'an address such as "http://controller:8778", with no user, password, query or fragment in it'
OVSDB = re.compile(r"unix:/[!-~]+|(?:tcp|ssl):[!-~]+:[0-9]{1,5}")


def parse_time_span(value: Any) -> Any:
    """Turn a time span into seconds; what is no text is left as it is.  Raises ``ValueError``."""
    return seconds_of(value) if isinstance(value, str) else value


def web_address(text: str) -> str:
    """Return an address without a trailing slash.  Raises ``ValueError``, which does not show it."""
    parts = urlsplit(text)
    # Reading the port is what checks it.
    right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and len(text) <= LONGEST_ADDRESS
    if not right or parts.username is not None or parts.query or parts.fragment or not VISIBLE.fullmatch(text):
        raise ValueError("no web address")
    _check_host(parts.netloc)
    return text.rstrip("/")


def _check_host(netloc: str) -> None:
    """Make sure that whoever connects there takes it for the same host as we do.  Raises ``ValueError``."""
    found = HOST_AND_PORT.fullmatch(netloc)
    if found is None:
        raise ValueError("no host")
    name = found["name"]
    if name is None or DOTTED.fullmatch(name):
        ip_address(name or found["six"])
    elif "xn--" in name.lower():
        import httpx  # noqa: PLC0415 - it takes time to load, and few names need it

        # Undoes the encoding of an international name, which may be none: a ValueError.
        _ = httpx.URL(f"http://{name}").host


def _sqlite_url(text: str) -> str:
    path = text.removeprefix(SQLITE)
    if path == text or not path or path.endswith("/") or ":memory:" in path or set(path) & set("?#\0"):
        raise ValueError("no SQLite file")
    return text


def _name_template(text: str) -> str:
    if not VISIBLE.fullmatch(text) or why_not(text) is not None:
        raise ValueError("no template")
    return text


def _store_url(text: str) -> str:
    if text == NOVA_CONDUCTOR:
        return text
    if not text.startswith(POSTGRESQL):
        return _sqlite_url(text)
    parse_database_url(text)
    return text


def _name(text: str) -> str:
    if not VISIBLE.fullmatch(text):
        raise ValueError("no name")
    return text


def _uuid(text: str) -> str:
    return uuid_in_any_spelling(text)


def _device(text: str) -> str:
    if not is_device_name(text):
        raise ValueError("no device")
    return text


def _ovsdb(text: str) -> str:
    if not OVSDB.fullmatch(text):
        raise ValueError("no address of a database")
    return text


def parse_path(value: Any) -> Any:
    """Turn text into a path; what cannot be one is left as it is."""
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return Path(value)
    return value


def _token(value: SecretStr) -> SecretStr:
    if not VISIBLE.fullmatch(value.get_secret_value()):
        raise ValueError("no token")
    return value


def _device_specs(value: Any) -> tuple[DeviceSpec, ...]:
    entries = value if isinstance(value, list) else [value]
    found: list[DeviceSpec] = []
    problems: list[tuple[str, Any, str]] = []
    for index, entry in enumerate(entries):
        try:
            found.extend(parse_device_spec(entry))
        except InvalidDeviceSpec as error:
            problems.extend((f"[{index}]{each.path}", each.value, each.right) for each in error.problems)
    if problems:
        raise WrongEntries(problems)
    return tuple(found)


def _listen_address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    ip_address(host.removeprefix("[").removesuffix("]"))
    if not separator or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host) != host.startswith("["):  # noqa: PLR2004 - a port
        raise ValueError("no address to listen at")
    return text


def _socket_mode(text: str) -> str:
    if not re.fullmatch(r"0?[0246][0246]0", text):
        raise ValueError("no mode")
    return text


def _words(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("no name")
    return text


def _secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value() or not value.get_secret_value().isprintable():
        raise ValueError("no secret")
    return value


def _several(value: Any) -> Any:
    """Convert a single value into a tuple of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _paths(value: Any) -> Any:
    several = _several(value)
    return tuple(parse_path(each) for each in several) if isinstance(several, tuple) else several


WebAddress = Annotated[
    str,
    AfterValidator(web_address),
    Right(ADDRESS),
]
StoreUrl = Annotated[
    str,
    AfterValidator(_store_url),
    Right(
        f'"{SQLITE}" and the path of a file, such as "{SQLITE}/var/lib/bringup/instances.sqlite", or '
        f'"{POSTGRESQL}user@host/database" (hosts with commas between them; no password and no query: store.tls and '
        f'store.ca_file are keys of their own), or "{NOVA_CONDUCTOR}"'
    ),
]
NameTemplate = Annotated[
    str,
    AfterValidator(_name_template),
    Right('Nova\'s instance_name_template, such as "instance-%08x", "%(uuid)s" or "%(hostname)s-%(id)x"'),
]
Name = Annotated[str, AfterValidator(_name), Right("a name with no spaces in it, of ASCII characters")]
DeviceName = Annotated[
    str, AfterValidator(_device), Right("the name of a network device: at most 15 letters, digits and _.-")
]
OvsdbAddress = Annotated[
    str, AfterValidator(_ovsdb), Right('an address such as "unix:/run/openvswitch/db.sock" or "tcp:127.0.0.1:6640"')
]
FilePath = Annotated[Path, Right("the path of a file")]
FolderPath = Annotated[Path, Right("the path of a folder")]
Uuid = Annotated[str, AfterValidator(_uuid), Right('a UUID such as "6b3e2f1a-5c8d-4a7e-9f10-2b3c4d5e6f70"')]
Token = Annotated[SecretStr, AfterValidator(_token), Right("a token: visible ASCII characters, no spaces")]
Words = Annotated[str, AfterValidator(_words), Right("a name")]
Secret = Annotated[SecretStr, AfterValidator(_secret), Right("printable characters")]
Interfaces = Annotated[
    tuple[Literal["internal", "public", "admin"], ...],
    BeforeValidator(_several),
    Field(min_length=1),
    Right('a list of "internal", "public", "admin", the preferred one first'),
]
ListenAddress = Annotated[
    str,
    AfterValidator(_listen_address),
    Right('an IP address and a port, such as "127.0.0.1:8776" or "[::1]:8776"'),
]
SocketMode = Annotated[
    str,
    AfterValidator(_socket_mode),
    Right('a mode in octal for the owner and the group, such as "0660" or "0600"; nothing for others'),
]
HostNames = Annotated[tuple[Name, ...], BeforeValidator(_several), Right("a host name, or a list of them")]
FilePaths = Annotated[
    tuple[FilePath, ...], BeforeValidator(_paths), Right("the path of a file or folder, or a list of them")
]
DeviceSpecs = Annotated[
    tuple[DeviceSpec, ...],
    PlainValidator(_device_specs),
    Right("a list of device specs, each a string of JSON as in nova.conf or a table"),
]
