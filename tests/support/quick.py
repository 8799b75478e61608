"""``pytest --quick``: what decides, the contracts on the simulated host and SQLite, and the oracle's replays.

Files are left out that use a peer or a program, which their imports from ``support`` tell, or take long; of the rest
the second backend, and what takes so long that its coverage is not measured.
"""

import re
from pathlib import Path

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
        "test_assembly_driver",
        "test_cancellation",
        "test_cli",
        "test_cli_check",
        "test_cli_explain",
        "test_cli_import",
        "test_cli_plan",
        "test_gates",
        "test_journal_damage",
        "test_placement_server",
        "test_programs",
        "test_record_files_memory",
        "test_release",
        "test_safety_model",
        "test_two_hosts",
        "test_words",
    }
)
CASES = frozenset({"postgresql", "libvirt"})
"""Cases of a contract that are real peers."""
IMPORTS = re.compile(r"^from support(?:\.(\w+))? import (\([^)]*\)|.*)$", re.MULTILINE)
NAMES = re.compile(r"\w+")


def is_quick(path: Path) -> bool:
    """Check whether a file has quick tests; what it imports is read from its text, as an import takes time."""
    if not FOLDERS.isdisjoint(path.parts) or path.stem in LONG:
        return False
    imported = IMPORTS.findall(path.read_text())
    return path.parent.name == "contract" or PEERS.isdisjoint(
        name for module, names in imported for name in ([module] if module else NAMES.findall(names))
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--quick", action="store_true", help="no peer, no program, nothing that takes long")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files that are not quick."""
    quick = not config.option.quick or collection_path.suffix != ".py" or is_quick(collection_path)
    return None if quick else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of a contract that are real peers, the second backend, and what takes too long to measure."""
    if config.option.quick:
        left_out = [item for item in items if not _is_quick_case(item)]
        items[:] = [item for item in items if _is_quick_case(item)]
        config.hook.pytest_deselected(items=left_out)


def _is_quick_case(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    case = set() if callspec is None else set(callspec.id.split("-"))
    folder = item.path.parent.name
    if "trio" in case or (folder == "contract" and case & CASES):
        return False
    return folder == "conformance" or item.get_closest_marker("no_cover") is None
