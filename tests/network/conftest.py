"""Tests on the real kernel: each in a network namespace of its own."""

import subprocess
from collections.abc import Iterator

import pytest

from support.namespaces import new_network_namespace
from support.programs import needs


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """Enter a network namespace with loopback up."""
    needs("ip")
    with new_network_namespace():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # noqa: S607 - wherever it is
        yield


@pytest.fixture
def nftables() -> None:
    """Skip where there is no nft."""
    needs("nft")
