"""Imports the real Keystone or the real Placement, then forks a process for each that is wanted; see preloaded.py.

Usage: ``cloud_child.py keystone DESCRIPTOR`` or ``cloud_child.py placement DESCRIPTOR``, which is a socket.  Command
lines are ``keystone DIRECTORY PORT PLACEMENT_URL`` and ``placement DIRECTORY PORT``, whose options come from ``OS_*``,
and ``alone OPTION...``: the Placement of the demonstration.  Each ends with its standard input.
"""

import gc
import importlib
import json
import logging
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from bringup.daemon.cli.demo_site import placement_server

REGION = "RegionOne"
IMPORTED = {
    "keystone": (
        "keystone.server.wsgi",
        "keystone.cmd.bootstrap",
        "keystone.common.sql.upgrades",
        "sqlalchemy.dialects.sqlite",
        "waitress.server",
    ),
    "placement": (
        "placement.deploy",
        "keystonemiddleware.auth_token",
        "sqlalchemy.dialects.sqlite",
        "waitress.server",
    ),
}
"""What takes the time of a start, and reads no option when it is imported."""


def keystone(directory: Path, port: int, placement_url: str) -> Any:
    """Make a Keystone over SQLite, with an administrator and a catalogue if it has none; return its application."""
    fresh = not (directory / "keystone.sqlite").exists()
    os.environ |= {
        "OS_DATABASE__CONNECTION": f"sqlite:///{directory}/keystone.sqlite",
        "OS_FERNET_TOKENS__KEY_REPOSITORY": f"{directory}/fernet",
        "OS_FERNET_RECEIPTS__KEY_REPOSITORY": f"{directory}/fernet",
        "OS_CREDENTIAL__KEY_REPOSITORY": f"{directory}/credential",
        # Without one each look at a token takes a fifth of a second of CPU time.
        "OS_CACHE__BACKEND": "dogpile.cache.memory",
    }
    if fresh:
        make_databases(directory)
    application = importlib.import_module("keystone.server.wsgi").initialize_public_application()
    if fresh:
        bootstrap(port, placement_url)
    return application


def make_databases(directory: Path) -> None:
    """Make the keys and the tables."""
    server = importlib.import_module("keystone.server")
    server.configure(config_files=[])
    fernet_utils = importlib.import_module("keystone.common.fernet_utils")
    for repository, group in (("fernet", "fernet_tokens"), ("credential", "credential")):
        keys = fernet_utils.FernetUtils(f"{directory}/{repository}", 3, group)
        keys.create_key_directory()
        keys.initialize_key_repository()
    importlib.import_module("keystone.common.sql.upgrades").offline_sync_database_to_version()
    importlib.import_module("keystone.conf").CONF.clear()


def bootstrap(port: int, placement_url: str) -> None:
    """Make the administrator and the catalogue; the application is there already."""
    commands: Any = importlib.import_module("keystone.cmd.bootstrap")
    # The application has loaded the backends already, and a second time they refuse.
    commands.backends = type("Loaded", (), {"load_backends": staticmethod(lambda: None)})
    admin = commands.Bootstrapper()
    admin.admin_username = admin.project_name = admin.admin_role_name = "admin"
    admin.admin_password = os.environ["BOOTSTRAP_PASSWORD"]
    admin.service_name, admin.region_id, admin.immutable_roles = "keystone", REGION, True
    admin.public_url = admin.internal_url = admin.admin_url = f"http://127.0.0.1:{port}/v3"
    admin.bootstrap()
    fill_catalogue(placement_url)


def fill_catalogue(placement_url: str) -> None:
    """Add Placement in one region, an address that leads nowhere in another, and its service user."""
    apis = importlib.import_module("keystone.common.provider_api").ProviderAPIs
    catalogue = apis.catalog_api
    service = {"id": "placement", "type": "placement", "name": "placement", "enabled": True}
    catalogue.create_service("placement", service)
    catalogue.create_region({"id": "RegionTwo", "description": "", "parent_region_id": None})
    for region, interface, url in (
        (REGION, "public", placement_url),
        (REGION, "internal", placement_url),
        ("RegionTwo", "public", "http://placement.region-two.invalid"),
    ):
        number = f"{region}-{interface}"
        catalogue.create_endpoint(
            number,
            {
                "id": number,
                "service_id": "placement",
                "region_id": region,
                "interface": interface,
                "url": url,
                "enabled": True,
            },
        )
    user = apis.identity_api.create_user(
        {"name": "placement", "domain_id": "default", "password": os.environ["SERVICE_PASSWORD"], "enabled": True}
    )
    project = next(one for one in apis.resource_api.list_projects() if one["name"] == "admin")
    role = next(one for one in apis.role_api.list_roles() if one["name"] == "admin")
    apis.assignment_api.create_grant(role["id"], user_id=user["id"], project_id=project["id"])


def placement(directory: Path) -> Any:
    """Make a Placement over SQLite that asks Keystone; return its application."""
    os.environ |= {
        "OS_PLACEMENT_DATABASE__CONNECTION": f"sqlite:///{directory}/placement.sqlite",
        "OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP": "true",
        "OS_API__AUTH_STRATEGY": "keystone",
    }
    return importlib.import_module("placement.wsgi.api").application


def serve(what: str, directory: str, port: str, *more: str) -> None:
    """Serve one of the two until the standard input ends."""
    logging.disable(logging.CRITICAL)
    application = keystone(Path(directory), int(port), *more) if what == "keystone" else placement(Path(directory))
    server = importlib.import_module("waitress.server").create_server(
        application, host="127.0.0.1", port=int(port), threads=1, ident=None
    )
    threading.Thread(target=server.run, daemon=True).start()
    sys.stdout.write(json.dumps({"ready": True}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


def main() -> None:
    imported, descriptor = sys.argv[1:]
    # Keystone reads the command line of whoever imports it.
    sys.argv[1:] = []
    # As in tests/conftest.py: two seconds, for a format that no schema here has.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as the import system has it: it is not there
    warnings.simplefilter("ignore")
    placement_server.remove_own_folder()
    gc.disable()
    for name in IMPORTED[imported]:
        importlib.import_module(name)
    gc.enable()
    # Last, and only for as long: modules beside this one have names of OpenStack's.
    sys.path.append(str(Path(__file__).parent))
    forking = importlib.import_module("forking")
    sys.path.pop()
    what, *arguments = forking.serve(int(descriptor))
    if what == "alone":
        placement_server.main(arguments)
    else:
        serve(what, *arguments)


if __name__ == "__main__":
    main()
