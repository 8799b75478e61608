"""From the options of keystoneauth, wherever they were read, to who we are."""

from collections.abc import Callable, Mapping

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.values import ADDRESS, web_address
from bringup.placement.credentials import ApplicationCredential, GivenToken, Login, Method, Named, Password

Options = Mapping[str, str | None]
"""By keystoneauth's names: ``auth_url``, ``username``, ``user_domain_name``...  What is empty is not given."""

KEYS = (
    "auth_url",
    "username",
    "user_id",
    "user_domain_name",
    "user_domain_id",
    "password",
    "project_name",
    "project_id",
    "project_domain_name",
    "project_domain_id",
    "default_domain_name",
    "default_domain_id",
    "system_scope",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    "token",
    "endpoint",
)
"""Options that are read, beside ``auth_type``."""

PASSWORD, APPLICATION_CREDENTIAL, TOKEN = "password", "application_credential", "token"
AUTH_TYPES = {
    "password": PASSWORD,
    "v3password": PASSWORD,
    "application_credential": APPLICATION_CREDENTIAL,
    "v3applicationcredential": APPLICATION_CREDENTIAL,
    "token": TOKEN,
    "v3token": TOKEN,
}

OTHER_AUTH_TYPES = frozenset(
    {
        "admin_token",
        "http_basic",
        "noauth",
        "none",
        "v2password",
        "v2token",
        "v3adfspassword",
        "v3fedkerb",
        "v3kerberos",
        "v3multifactor",
        "v3oauth1",
        "v3oauth2clientcredential",
        "v3oauth2mtlsclientcredential",
        "v3oidcaccesstoken",
        "v3oidcauthcode",
        "v3oidcclientcredentials",
        "v3oidcdeviceauthz",
        "v3oidcpassword",
        "v3samlpassword",
        "v3tokenlessauth",
        "v3totp",
    }
)
"""What else keystoneauth has."""


def identity_of(options: Options, *, named: Callable[[str], str]) -> Login:
    """Put it together; ``named`` says how a key is called where the operator wrote it.

    :raises SettingsError: something is missing.
    """
    auth_type = options.get("auth_type") or "password"
    kind = AUTH_TYPES.get(auth_type)
    if kind is None:
        known = ", ".join(sorted(AUTH_TYPES))
        # What is no word of keystoneauth may be a secret in the wrong place.
        said = f' = "{auth_type}" is not supported' if auth_type in OTHER_AUTH_TYPES else " is none that there is"
        raise SettingsError([f"{named('auth_type')}{said}: give one of {known}"])
    problems: list[str] = []

    def must(*keys: str) -> str:
        found = next((value for key in keys if (value := options.get(key))), "")
        if not found:
            problems.append(f"{' or '.join(named(key) for key in keys)} is missing: auth_type {auth_type} needs it")
        return found

    auth_url = _auth_url(must("auth_url"), named=named, problems=problems)
    if kind == PASSWORD and options.get("application_credential_secret") and not options.get("password"):
        given, wrong = named("application_credential_secret"), named("auth_type")
        raise SettingsError([f'{given} is given, and {wrong} is "{auth_type}": set it to "application_credential"'])
    method = _method(kind, options, must)
    system, project = bool(options.get("system_scope")), _named(options, "project")
    if kind != APPLICATION_CREDENTIAL:
        if system and project is not None:
            problems.append(f"{named('system_scope')} and a project are both given: the scope is one of them")
        if not system and project is None:
            keys = ", ".join(named(key) for key in ("project_name", "project_id", "system_scope"))
            problems.append(f"{keys}: one of them is needed, or the token is of no use")
    if problems:
        raise SettingsError(problems)
    return Login(auth_url=auth_url, method=method, project=project, system=system)


def _auth_url(url: str, *, named: Callable[[str], str], problems: list[str]) -> str:
    try:
        return web_address(url) if url else url
    except ValueError:
        # What is wrong with it may be a password.
        problems.append(f"{named('auth_url')} is not an address: give {ADDRESS}")
        return url


def _method(kind: str, options: Options, must: Callable[..., str]) -> Method:
    if kind == TOKEN:
        return GivenToken(secret=must("token"))
    if kind == PASSWORD:
        must("username", "user_id")
        user = _named(options, "user") or Named()
        return Password(user=user, secret=must("password"))
    secret = must("application_credential_secret")
    must("application_credential_id", "application_credential_name")
    uid, name = options.get("application_credential_id"), options.get("application_credential_name")
    if uid:
        return ApplicationCredential(id=uid, secret=secret)
    # A name is one of its user's only.
    must("username", "user_id")
    return ApplicationCredential(name=name, user=_named(options, "user"), secret=secret)


def _named(options: Options, what: str) -> Named | None:
    """Read a user or a project; its domain may be said once for both (``default_domain_name``)."""
    name = options.get("username") if what == "user" else options.get(f"{what}_name")
    if not name and not options.get(f"{what}_id"):
        return None
    return Named(
        id=options.get(f"{what}_id") or None,
        name=name or None,
        domain_id=options.get(f"{what}_domain_id") or options.get("default_domain_id") or None,
        domain_name=options.get(f"{what}_domain_name") or options.get("default_domain_name") or None,
    )
