"""A real Keystone and a real Placement that asks it: a pair a test process, made when first asked for."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bringup.placement.client import PlacementClient, connect
from bringup.placement.keystone import KeystoneAuth
from support.placement import STDERR
from support.polling import until
from support.ports import free_port
from support.preloaded import Forked, preloaded_cloud

PASSWORD = "s3cr3t adm1n?"
SERVICE_PASSWORD = "s3cr3t-placement"
REGION = "RegionOne"
START_S = 60.0


@dataclass
class Cloud:
    """A cloud with an identity service and a placement service."""

    directory: Path
    auth_url: str
    placement_url: str = ""
    keystone: Forked | None = None
    """Its process, if it is one's own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What Keystone is started with."""

    def start_keystone(self) -> None:
        """Start Keystone, on the port that it has."""
        port = urllib.parse.urlsplit(self.auth_url).port
        self.keystone = _child(["keystone", str(self.directory), str(port), self.placement_url], self.environment)
        assert self.keystone.stdout is not None
        said = json.loads(self.keystone.stdout.readline() or "{}")
        assert said.get("ready"), "Keystone did not start"

    def stop_keystone(self) -> None:
        """Stop Keystone; what it knows is there when it is started again."""
        assert self.keystone is not None
        end(self.keystone)

    def call(self, method: str, path: str, document: Any = None, *, token: str | None = None) -> Any:
        """Call Keystone as its administrator."""
        headers = {"X-Auth-Token": token or self.token()}
        answer = httpx.request(method, f"{self.auth_url}{path}", json=document, headers=headers, timeout=30)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def token(self, *, password: str = PASSWORD, user: str = "admin", project: str = "admin") -> str:
        """Log in and give a token."""
        domain = {"id": "default"}
        document = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "domain": domain, "password": password}},
                },
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer = httpx.post(f"{self.auth_url}/auth/tokens", json=document, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"]

    def revoke(self, token: str) -> None:
        """Revoke a token."""
        headers = {"X-Auth-Token": self.token(), "X-Subject-Token": token}
        answer = httpx.delete(f"{self.auth_url}/auth/tokens", headers=headers, timeout=30)
        assert answer.status_code == 204, answer.text

    def a_user(self) -> tuple[str, str]:
        """Make a user who is an administrator of the project admin; return name and password."""
        name, password = f"nova-{uuid.uuid4().hex[:8]}", "n0va s3cr3t"
        user = self.call("POST", "/users", {"user": {"name": name, "domain_id": "default", "password": password}})
        project = self.call("GET", "/projects?name=admin")["projects"][0]["id"]
        role = self.call("GET", "/roles?name=admin")["roles"][0]["id"]
        self.call("PUT", f"/projects/{project}/users/{user['user']['id']}/roles/{role}")
        self.call("PUT", f"/system/users/{user['user']['id']}/roles/{role}")
        return name, password

    def an_application_credential(self) -> tuple[str, str, str]:
        """Make one for the administrator; return its id, its name and its secret."""
        token = self.token()
        me = self.call("GET", "/users?name=admin", token=token)["users"][0]["id"]
        name, secret = f"bringup-{uuid.uuid4().hex[:8]}", "app s3cr3t"
        made = self.call(
            "POST",
            f"/users/{me}/application_credentials",
            {"application_credential": {"name": name, "secret": secret, "roles": [{"name": "admin"}]}},
            token=token,
        )
        return made["application_credential"]["id"], name, secret


@contextlib.asynccontextmanager
async def patient_client(url: str | None, *, auth: KeystoneAuth, **more: Any) -> AsyncIterator[PlacementClient]:
    """Open a client that logs in also where Keystone has a queue, as on a machine that is busy with tests."""
    async with connect(url, auth=auth, **more) as client:
        yield client.insisting()


def _child(arguments: list[str], environment: Mapping[str, str]) -> Forked:
    process = preloaded_cloud(arguments[0]).start(
        arguments, {**os.environ, **environment}, stdin=subprocess.PIPE, stderr=STDERR
    )
    atexit.register(end, process)
    return process


def end(process: Forked) -> None:
    """End a child, if it has not ended already."""
    with contextlib.suppress(ValueError, OSError):
        process.communicate(timeout=30)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - loopback
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _wait_for(url: str, process: Forked) -> None:
    def answers() -> bool:
        assert process.poll() is None, f"{url}: its process ended"
        return _answers(url)

    until(answers, f"the answer of {url}", patience_s=START_S)


@functools.cache
def a_cloud(token_s: int = 3600) -> Cloud:
    """Return Keystone, whose tokens live this long, and a Placement that asks it; started when first asked for."""
    return start_cloud(token_s)


def start_cloud(token_s: int = 3600, *, rounds: int = 4, looks_up_each_time: bool = True) -> Cloud:
    """Start a cloud of one's own.

    Passwords are hashed in so many ``rounds``.  Placement asks Keystone about a token each time that it sees it, or as
    it does by default.
    """
    directory = Path(tempfile.mkdtemp(prefix="cloud-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    auth_url, placement_url = (f"http://127.0.0.1:{free_port()}{path}" for path in ("/v3", ""))
    cloud = Cloud(directory, auth_url, placement_url)
    cloud.environment = {
        "OS_TOKEN__EXPIRATION": str(token_s),
        "OS_IDENTITY__PASSWORD_HASH_ROUNDS": str(rounds),
        "BOOTSTRAP_PASSWORD": PASSWORD,
        "SERVICE_PASSWORD": SERVICE_PASSWORD,
    }
    cloud.start_keystone()
    authtoken = {
        "auth_type": "password",
        "auth_url": auth_url,
        "www_authenticate_uri": auth_url,
        "username": "placement",
        "password": SERVICE_PASSWORD,
        "project_name": "admin",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    if looks_up_each_time:
        # One that was revoked is refused at once.
        authtoken["token_cache_time"] = "-1"
    placement = _child(
        ["placement", str(directory), str(urllib.parse.urlsplit(placement_url).port)],
        {f"OS_KEYSTONE_AUTHTOKEN__{key.upper()}": value for key, value in authtoken.items()},
    )
    _wait_for(placement_url, placement)
    return cloud
