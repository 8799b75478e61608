"""From keystoneauth's options to who we are."""

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.credentials.keystone_identity import AUTH_TYPES, identity_of
from bringup.placement.credentials import ApplicationCredential, GivenToken, Login, Named, Password

URL = "https://keystone:5000/v3"
USER = {"username": "nova", "user_domain_name": "Service"}
PROJECT = {"project_name": "service", "project_domain_id": "d1"}
NOVA = Named(name="nova", domain_name="Service")
SERVICE = Named(name="service", domain_id="d1")
APP = {"application_credential_id": "a1", "application_credential_secret": "s3cr3t"}


def identity(**options: str | None) -> Login:
    return identity_of({"auth_url": URL, **options}, named=lambda key: f"[placement] {key}")


def problems(**options: str | None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        identity(**options)
    assert "s3cr3t" not in str(caught.value)
    return caught.value.problems


GOOD: dict[str, tuple[dict[str, str | None], Login]] = {
    "password is what is meant where nothing is said": (
        {**USER, **PROJECT, "password": "s3cr3t"},
        Login(auth_url=URL, method=Password(user=NOVA, secret="s3cr3t"), project=SERVICE),
    ),
    "ids": (
        {"auth_type": "v3password", "user_id": "u1", "project_id": "p1", "password": "s3cr3t"},
        Login(auth_url=URL, method=Password(user=Named(id="u1"), secret="s3cr3t"), project=Named(id="p1")),
    ),
    "one domain for both": (
        {"username": "nova", "project_name": "service", "default_domain_name": "Both", "password": "s3cr3t"},
        Login(
            auth_url=URL,
            method=Password(user=Named(name="nova", domain_name="Both"), secret="s3cr3t"),
            project=Named(name="service", domain_name="Both"),
        ),
    ),
    "what is empty is not given": (
        {"user_id": "", "project_id": "", "system_scope": "", **USER, **PROJECT, "password": "s3cr3t"},
        Login(auth_url=URL, method=Password(user=NOVA, secret="s3cr3t"), project=SERVICE),
    ),
    "the whole system": (
        {**USER, "system_scope": "all", "password": "s3cr3t"},
        Login(auth_url=URL, method=Password(user=NOVA, secret="s3cr3t"), system=True),
    ),
    "application credential by id": (
        {"auth_type": "v3applicationcredential", **APP},
        Login(auth_url=URL, method=ApplicationCredential(id="a1", secret="s3cr3t")),
    ),
    "application credential by name": (
        {
            "auth_type": "application_credential",
            "application_credential_name": "bringup",
            "application_credential_secret": "s3cr3t",
            **USER,
        },
        Login(auth_url=URL, method=ApplicationCredential(name="bringup", user=NOVA, secret="s3cr3t")),
    ),
    "token": (
        {"auth_type": "v3token", "token": "s3cr3t", **PROJECT},
        Login(auth_url=URL, method=GivenToken(secret="s3cr3t"), project=SERVICE),
    ),
}


@pytest.mark.parametrize(("options", "expected"), GOOD.values(), ids=GOOD.keys())
def test_options_make_an_identity(options: dict[str, str | None], expected: Login) -> None:
    assert identity(**options) == expected


def test_an_application_credential_takes_no_other_scope() -> None:
    found = identity(auth_type="application_credential", **APP, **PROJECT)
    assert "scope" not in found.document()["auth"]


NEEDS = "is missing: auth_type password needs it"
SCOPES = "[placement] project_name, [placement] project_id, [placement] system_scope"
APP_GIVEN = (
    '[placement] application_credential_secret is given, and [placement] auth_type is "password": '
    'set it to "application_credential"'
)
ADDRESS = "[placement] auth_url is not an address: give an address such as"
BAD: dict[str, tuple[dict[str, str | None], tuple[str, ...]]] = {
    "everything": (
        {"auth_url": None},
        (
            f"[placement] auth_url {NEEDS}",
            f"[placement] username or [placement] user_id {NEEDS}",
            f"[placement] password {NEEDS}",
            f"{SCOPES}: one of them is needed, or the token is of no use",
        ),
    ),
    "two scopes": (
        {**USER, **PROJECT, "password": "s3cr3t", "system_scope": "all"},
        ("[placement] system_scope and a project are both given: the scope is one of them",),
    ),
    "an application credential that is not said to be one": (
        {"auth_type": "password", **APP},
        (APP_GIVEN,),
    ),
    "an application credential by name without its user": (
        {
            "auth_type": "application_credential",
            **APP,
            "application_credential_id": "",
            "application_credential_name": "x",
        },
        ("[placement] username or [placement] user_id is missing: auth_type application_credential needs it",),
    ),
    "a token that is none": (
        {"auth_type": "token", **PROJECT},
        ("[placement] token is missing: auth_type token needs it",),
    ),
    "a type that is not known": (
        {"auth_type": "v3oidcpassword"},
        (f'[placement] auth_type = "v3oidcpassword" is not supported: give one of {", ".join(sorted(AUTH_TYPES))}',),
    ),
}


@pytest.mark.parametrize(("options", "expected"), BAD.values(), ids=BAD.keys())
def test_what_is_missing_is_reported_all_at_once(options: dict[str, str | None], expected: tuple[str, ...]) -> None:
    assert problems(**options) == expected


@pytest.mark.parametrize(
    "url", ["keystone:5000", "ftp://keystone", "https://nova:s3cr3t@keystone", "https://k/v3?s3cr3t"]
)
def test_an_address_that_is_none_is_not_shown(url: str) -> None:
    (problem,) = problems(auth_url=url, **USER, **PROJECT, password="s3cr3t")
    assert problem.startswith(ADDRESS)
    assert url not in problem


@pytest.mark.parametrize("auth_type", AUTH_TYPES)
def test_no_identity_shows_its_secret(auth_type: str) -> None:
    found = identity(auth_type=auth_type, token="s3cr3t", password="s3cr3t", **USER, **PROJECT, **APP)
    assert found.method.secret == "s3cr3t"
    assert "s3cr3t" not in f"{found!r} {found} {found.method!r} {found.method}"


@pytest.mark.parametrize("wrong", ["hush-7f1c9e", "V3Password", "pass word", "v3"])
def test_what_is_no_kind_of_login_may_be_a_secret_and_is_not_shown(wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        identity_of({"auth_type": wrong}, named=lambda key: f"cloud ours: {key}")

    assert str(caught.value).startswith(
        "cloud ours: auth_type is none that there is: give one of application_credential, "
    )
    assert wrong not in str(caught.value).partition(": give one of")[0]
