"""Log in to Keystone, find Placement in its catalogue, and this host in it: with this package.

``python gate_ours.py AUTH_URL REGION PROVIDER``; the password is in the environment.  Each line on standard input has
the gate passed and a line written: first without a token, then with the one that it has.
"""

import os
import sys

from bringup.daemon.quick_imports import quick_imports

with quick_imports():  # as the command itself starts
    import logging

    import anyio
    import structlog

    from bringup.placement.catalogue import WantedEndpoint
    from bringup.placement.client import connect
    from bringup.placement.credentials import Login, Named, Password
    from bringup.placement.gate import pass_gate
    from bringup.placement.keystone import KeystoneAuth


async def main(auth_url: str, region: str, provider: str) -> None:
    """Pass the gate twice."""
    method = Password(user=Named(name="admin"), secret=os.environ["OS_PASSWORD"])
    auth = KeystoneAuth(Login(auth_url=auth_url, method=method, project=Named(name="admin")))
    async with connect(None, auth=auth, wanted=WantedEndpoint(region=region)) as client:
        for _ in sys.stdin:
            await pass_gate(client, provider=provider, wait_s=30)
            print("passed", flush=True)


if __name__ == "__main__":
    # The program that embeds the client decides on its log; the peer is silent, too.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _, url, region_name, name = sys.argv
    anyio.run(main, url, region_name, name)
