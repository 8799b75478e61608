"""``pytest --quick``: what decides, the contracts on the simulated host and SQLite, and the oracle's replays.

A test is left out where its file uses a peer or a program, which its imports from ``support`` tell, or takes long.
"""

import functools
from types import ModuleType

import pytest

FOLDERS = frozenset({"acceptance", "chaos", "fuzz", "network"})
PEERS = frozenset(
    {
        "booted",
        "browser",
        "chaos",
        "computer",
        "containers",
        "debian",
        "faulty_proxy",
        "keystone",
        "libvirt_drivers",
        "libvirtd",
        "mariadb",
        "moving_address",
        "namespaces",
        "network",
        "no_locks",
        "nova",
        "open_vswitch",
        "openstack",
        "pgbouncer",
        "postgresql",
        "process",
        "rabbitmq",
        "real_compute",
        "region",
        "regret_lab",
        "screen",
        "starts",
    }
)
"""Modules of ``support`` that start a process or need a program."""
LONG = frozenset(
    {
        "test_cancellation",
        "test_cli",
        "test_cli_explain",
        "test_cli_import",
        "test_cli_plan",
        "test_journal_damage",
        "test_placement_server",
        "test_programs",
        "test_record_files_memory",
        "test_release",
        "test_safety_model",
        "test_two_hosts",
    }
)
CASES = frozenset({"postgresql", "libvirt"})
"""Cases of a contract that are real peers."""


def is_quick(item: pytest.Item) -> bool:
    """Tell whether a test is among the quick ones."""
    if item.path.parent.name in FOLDERS or item.path.stem in LONG:
        return False
    case = getattr(item, "callspec", None)
    if item.path.parent.name == "contract" and case is not None and not CASES.isdisjoint(case.id.split("-")):
        return False
    return not any(f"support.{peer}" in _used(getattr(item, "module", None)) for peer in PEERS)


@functools.cache
def _used(module: ModuleType) -> frozenset[str]:
    """Name the modules that a test's file has something of."""
    values = vars(module).values()
    return frozenset(
        value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "")) for value in values
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--quick", action="store_true", help="no peer, no program, nothing that takes long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not quick."""
    if config.option.quick:
        left_out = [item for item in items if not is_quick(item)]
        items[:] = [item for item in items if is_quick(item)]
        config.hook.pytest_deselected(items=left_out)
