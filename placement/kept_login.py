"""What a process leaves for the next one after a restart: its token, and for how long it has waited for Keystone.

A restart costs no login then, and a host that waits does not start again with short waits.  Clocks are the monotonic
one, which processes of one boot share: ``key`` names the boot, and who logs in where, so that another boot or other
credentials find nothing.  Pure; the caller stores the text where only its user can read it.
"""

import hashlib
import hmac
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

import structlog

from bringup.placement.catalogue import SERVICE_TYPE, Endpoint
from bringup.placement.credentials import GivenToken, Login

log = structlog.get_logger()

FORMAT: Final = "bringup.login/1"
CHECK_BYTES: Final = 2
"""Of a digest of the secret: one of 65 536 other secrets is taken for it, until the token expires."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, its expiry, and the catalogue that came with it."""

    value: str = field(repr=False)
    stale_at: float
    """On the monotonic clock: the wall clock of a booting host may be wrong."""
    catalogue: tuple[Endpoint, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginState:
    """The state of the logins of one host."""

    token: Token | None = None
    failures: int = 0
    """Failed attempts in a row that Keystone did not respond to."""
    queued_since: float | None = None
    """When Keystone was first busy, on the monotonic clock; None where it is not, or is unavailable."""

    def after_failure(self, *, is_queued: bool, now: float) -> "LoginState":
        """Return the state after an attempt that Keystone has a queue for, or that it did not respond to."""
        if not is_queued:
            return replace(self, failures=self.failures + 1, queued_since=None)
        return replace(self, failures=0, queued_since=now if self.queued_since is None else self.queued_since)


NOTHING: Final = LoginState()


class Shelf(Protocol):
    """A place for one text that survives the process, not the boot."""

    def read(self) -> str | None:
        """Return the text; None where there is none, or none that may be used."""

    def write(self, text: str) -> None:
        """Replace the text."""

    def remove(self) -> None:
        """Remove the text."""


class NotOurs(Exception):
    """A text that cannot be used; the message has the reason and no part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLogin:
    """The state of the logins of one identity on one boot, on a shelf."""

    shelf: Shelf
    key: str

    def load(self, *, now: float) -> LoginState:
        """Return the state that an earlier process left; nothing where there is none."""
        text = self.shelf.read()
        if text is None:
            return NOTHING
        try:
            found = decode(text, self.key, now=now)
        except NotOurs as error:
            log.warning("keystone.kept_login_ignored", reason=str(error))
            self.shelf.remove()
            return NOTHING
        log.info("keystone.kept_login", has_token=found.token is not None, failures=found.failures)
        return found

    def save(self, state: LoginState) -> None:
        """Replace the state."""
        self.shelf.write(encode(state, self.key))


def keep_login(identity: Login, *, boot_id: str, shelf: Shelf) -> KeptLogin | None:
    """Return the kept login of an identity; None for a given token: what it obtains costs Keystone next to nothing."""
    is_given = isinstance(identity.method, GivenToken)
    return None if is_given else KeptLogin(shelf=shelf, key=key_of(identity, boot_id))


def key_of(identity: Login, boot_id: str) -> str:
    """Return a name of an identity on a boot.

    Of the secret it depends on a few bits alone: enough to notice that it was changed, so that a wrong one fails at the
    restart and not at the next boot; too few to find it.  They are the same on every boot, or the files of a few boots
    would be enough.
    """
    without_secret = replace(identity, method=replace(identity.method, secret=""))
    name = json.dumps([identity.token_url, without_secret.document()], sort_keys=True)
    check = hmac.digest(name.encode(), identity.method.secret.encode(), "sha256")[:CHECK_BYTES].hex()
    return hashlib.sha256(json.dumps([boot_id, name, check]).encode()).hexdigest()


def encode(state: LoginState, key: str) -> str:
    """Write a state; of the catalogue only what leads to Placement."""
    token = state.token
    return json.dumps(
        {
            "format": FORMAT,
            "key": key,
            "failures": state.failures,
            "queued_since": state.queued_since,
            "token": None if token is None else token.value,
            "stale_at": None if token is None else token.stale_at,
            "catalogue": []
            if token is None
            else [asdict(endpoint) for endpoint in token.catalogue if endpoint.service_type == SERVICE_TYPE],
        }
    )


def decode(text: str, key: str, *, now: float) -> LoginState:
    """Read a state; a token that has expired is not part of it.

    :raises NotOurs: it is damaged, of another format, of another identity, or of another boot.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise NotOurs("it has another format")
        if document["key"] != key:
            raise NotOurs("it is of other credentials, or of another boot")
        since = document["queued_since"]
        return LoginState(
            token=_token(document, now),
            failures=_checked(document["failures"], lambda value: isinstance(value, int) and value >= 0),
            queued_since=None if since is None else _moment(since, at_most=now),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise NotOurs("it is damaged") from None


def _token(document: dict[str, Any], now: float) -> Token | None:
    value = document["token"]
    if value is None:
        return None
    stale_at = _moment(document["stale_at"], at_most=math.inf)
    if now >= stale_at:
        return None
    _checked(value, lambda text: isinstance(text, str) and text.isascii() and text.isprintable() and " " not in text)
    catalogue = tuple(Endpoint(**endpoint) for endpoint in document["catalogue"])
    _checked(catalogue, lambda found: all(isinstance(word, str) for one in found for word in asdict(one).values()))
    return Token(value, stale_at, catalogue)


def _moment(value: Any, *, at_most: float) -> float:
    return float(_checked(float(value), lambda moment: math.isfinite(moment) and moment <= at_most))


def _checked(value: Any, is_right: Callable[[Any], bool]) -> Any:
    if not is_right(value):
        raise ValueError("it is damaged")
    return value
