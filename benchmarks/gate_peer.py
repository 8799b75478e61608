"""The same as ``gate_ours.py``, with the client that OpenStack's services use: keystoneauth1, as Nova calls it.

A session, an adapter of the service type with interfaces and region, and a microversion on the request.
"""

import os
import sys
from typing import Any

from keystoneauth1 import adapter, loading, session


def main(auth_url: str, region: str, provider: str) -> None:
    """Pass the gate twice."""
    auth: Any = loading.get_plugin_loader("password").load_from_options(
        auth_url=auth_url,
        username="admin",
        password=os.environ["OS_PASSWORD"],
        project_name="admin",
        user_domain_id="default",
        project_domain_id="default",
    )
    placement = adapter.Adapter(
        session=session.Session(auth=auth),
        service_type="placement",
        interface=["internal", "public"],
        region_name=region,
    )
    for _ in sys.stdin:
        answer = placement.get("/resource_providers", params={"name": provider}, microversion="1.28")
        assert len(answer.json()["resource_providers"]) == 1  # noqa: S101 - else this measures nothing
        print("passed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
