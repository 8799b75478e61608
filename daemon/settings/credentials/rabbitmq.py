"""How RabbitMQ is reached: from our own settings, or from the nova.conf of a nova-compute on this host."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bringup.daemon.errors import SettingsError
from bringup.daemon.openstack.rpc.transport_url import TRUST, Broker, parse_transport_url
from bringup.daemon.settings import Settings
from bringup.daemon.settings.credentials.nova_conf import parsed, value_of

KEY = "messaging.nova_conf"
RABBIT = "oslo_messaging_rabbit"
NOWHERE = (
    "messaging.transport_url is missing: give messaging.transport_url_file, or messaging.nova_conf where this host has "
    "a nova.conf"
)
# Option and the names that it had, as oslo.messaging registers them.
OPTIONS = {
    "ssl": ("rabbit_use_ssl",),
    "ssl_ca_file": ("kombu_ssl_ca_certs",),
    "ssl_cert_file": ("kombu_ssl_certfile",),
    "ssl_key_file": ("kombu_ssl_keyfile",),
    "heartbeat_timeout_threshold": (),
}


def broker_of(settings: Settings) -> Broker:
    """Find out where RabbitMQ is; our own settings stand above what is found in nova.conf.

    :raises SettingsError: it is not said, or cannot be read.
    """
    messaging = settings.messaging
    if messaging.nova_conf:
        broker = from_nova_conf(messaging.nova_conf)
    elif messaging.transport_url is not None:
        broker = _parsed_url(messaging.transport_url.get_secret_value(), "messaging.transport_url", {})
    else:
        raise SettingsError([NOWHERE])
    if "messaging.control_exchange" in settings.sources:
        broker = replace(broker, exchange=messaging.control_exchange)
    files = {key: path for key in ("ca_file", "cert_file", "key_file") if (path := getattr(messaging, key)) is not None}
    return replace(broker, tls=replace(broker.tls or TRUST, **files)) if files else broker


def from_nova_conf(paths: Sequence[Path]) -> Broker:
    """Read what nova-compute would use.

    :raises SettingsError: a file cannot be read, or does not say it.
    """
    from oslo_config import cfg

    config = parsed(paths, KEY)
    names = ", ".join(map(str, paths))
    url = value_of(config, cfg.StrOpt("transport_url", secret=True), "DEFAULT")
    if not url:
        raise SettingsError([f"{KEY} = {names}: [DEFAULT] has no transport_url"])
    options: dict[str, str | None] = {}
    for name, before in OPTIONS.items():
        old = [cfg.DeprecatedOpt(each, group=RABBIT) for each in before]
        found = value_of(config, cfg.StrOpt(name, deprecated_opts=old), RABBIT)
        options[name] = None if found is None else str(found)
    if value_of(config, cfg.StrOpt("rabbit_login_method"), RABBIT) == "EXTERNAL":
        raise SettingsError([f"[{RABBIT}] rabbit_login_method = EXTERNAL: a user and a password are wanted here"])
    exchange = value_of(config, cfg.StrOpt("control_exchange", default="nova"), "DEFAULT")
    return replace(_parsed_url(str(url), f"{KEY} = {names}: [DEFAULT] transport_url", options), exchange=str(exchange))


def _parsed_url(text: str, named: str, options: dict[str, str | None]) -> Broker:
    try:
        return parse_transport_url(text, options)
    except ValueError as error:
        raise SettingsError([f"{named} {error}"]) from None
