import re
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.decisions.pace_keys import PaceKeys, PaceRule
from bringup.daemon.settings import load
from bringup.daemon.settings.pci.spec import WHOLE_ENTRY
from bringup.daemon.settings.values import parse_time_span
from support.settings_files import given_text, problems, value_of

UUID = "6b3e2f1a-5c8d-4a7e-9f10-2b3c4d5e6f70"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bringup.toml"


@pytest.fixture
def empty(file: Path) -> Path:
    file.write_text("")
    return file


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        pytest.param("limits.concurrency=16", 16, id="number"),
        pytest.param("limits.instance_deadline=1h 30min", 5400.0, id="time span"),
        pytest.param("limits.instance_deadline=90", 90.0, id="seconds"),
        pytest.param('limits.instance_deadline="90s"', 90.0, id="time span in quotes"),
        pytest.param("placement.wait=0", 0.0, id="zero where it is allowed"),
        pytest.param("driver.defer_iptables_apply=true", True, id="truth"),
        pytest.param("host.name=123", "123", id="text that looks like a number"),
        pytest.param("placement.resource_provider=true", "true", id="text that looks like a truth"),
        pytest.param("placement.url=http://host:8778/placement/", "http://host:8778/placement", id="address"),
        pytest.param("placement.url=https://[::1]:8778", "https://[::1]:8778", id="address of IPv6"),
        pytest.param("driver.scenario=a b.toml", Path("a b.toml"), id="path"),
        pytest.param("resume.guests=on_every_start", "on_every_start", id="choice"),
    ],
)
def test_a_value_of_the_command_line_is_read_by_the_kind_of_its_key(empty: Path, override: str, expected: Any) -> None:
    key, _, text = override.partition("=")
    variable = f"BRINGUP_{key.upper().replace('.', '__')}"

    assert value_of(load(empty, environment={}, overrides=[override]), key) == expected
    assert value_of(load(empty, environment={variable: text}, overrides=[]), key) == expected


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("limits.concurrency=0", "limits.concurrency = 0 (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=1025", "limits.concurrency = 1025 (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=2.0", "limits.concurrency = 2.0 (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=true", "limits.concurrency = true (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=many", 'limits.concurrency = "many" (--set): give a whole number from 1 to 1024'),
        ("log.level=verbose", 'log.level = "verbose" (--set): give one of "debug", "info", "warning", "error"'),
        ("driver.defer_iptables_apply=yes", 'driver.defer_iptables_apply = "yes" (--set): give true or false'),
        (
            "limits.concurency=4",
            "limits.concurency = 4 (--set): there is no such key; did you mean limits.concurrency?",
        ),
        (
            "lmits.concurrency=4",
            "lmits.concurrency = 4 (--set): there is no section [lmits]; did you mean limits.concurrency?",
        ),
        ("log.busy_timeout=4", "log.busy_timeout = 4 (--set): there is no such key; did you mean store.busy_timeout?"),
        ("log.zzz=4", "log.zzz = 4 (--set): there is no such key; the keys of [log] are level, format"),
        ("concurrency", '"concurrency" (--set): give section.key=value, such as limits.concurrency=4'),
        ("concurrency=4", '"concurrency=4" (--set): give section.key=value, such as limits.concurrency=4'),
        ("host.name=a b", 'host.name = "a b" (--set): give a name with no spaces in it, of ASCII characters'),
        (
            "host.name=caf\u00e9",
            'host.name = "caf\u00e9" (--set): give a name with no spaces in it, of ASCII characters',
        ),
        ("driver.scenario=", 'driver.scenario = "" (--set): give the path of a file'),
        (
            "pci.device_spec=5",
            f"pci.device_spec[0] = 5 (--set): give {WHOLE_ENTRY}",
        ),
    ],
    ids=lambda text: text.partition("(")[0][:40],
)
def test_a_wrong_value_is_reported_with_its_key_its_source_and_what_would_be_right(
    empty: Path, override: str, problem: str
) -> None:
    assert problems(empty, overrides=[override]) == (problem,)


@pytest.mark.parametrize(
    "span", ["0", "-1", "nan", "inf", "-inf", "8d", "true", "5 fortnights", "s", "", "1e400", "[1]"]
)
def test_an_impossible_limit_is_refused(empty: Path, span: str) -> None:
    (problem,) = problems(empty, overrides=[f"limits.shutdown_report_deadline={span}"])
    assert re.match(
        r"limits\.shutdown_report_deadline = .* \(--set\): give seconds as a number, or a time span", problem
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8778",
        "ftp://host",
        "http://",
        "http://host:x",
        "http://host:99999",
        "http://h/?a=1",
        "http://h/#a",
        "http://a b",
    ],
)
def test_what_is_no_web_address_is_refused(empty: Path, url: str) -> None:
    (problem,) = problems(empty, overrides=[f"placement.url={url}"])
    assert problem.startswith("placement.url = ")
    assert 'give an address such as "http://controller:8778"' in problem


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?b=c", "sqlite:///a/", "mysql://h/d"]
)
def test_what_is_no_sqlite_file_is_refused(empty: Path, url: str) -> None:
    (problem,) = problems(empty, overrides=[f"store.url={url}"])
    assert problem.startswith("store.url = ")


@pytest.mark.parametrize("address", ["127.0.0.1:8776", "0.0.0.0:1", "[::1]:65535", "[fd00::1]:8776"])
def test_an_address_to_listen_at_is_an_ip_address_and_a_port(empty: Path, address: str) -> None:
    assert load(empty, environment={}, overrides=[f"status.listen={address}"]).status.listen == address


@pytest.mark.parametrize(
    "address",
    ["", "8776", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:8776", "[::1]", "localhost:8776"],
)
def test_what_is_no_address_to_listen_at_is_refused(empty: Path, address: str) -> None:
    (problem,) = problems(empty, overrides=[f"status.listen={address}"])
    assert problem.startswith("status.listen = ")
    assert 'give an IP address and a port, such as "127.0.0.1:8776"' in problem


@pytest.mark.parametrize("mode", ["0660", "600", "0620"])
def test_a_mode_is_for_the_owner_and_the_group(empty: Path, mode: str) -> None:
    assert load(empty, environment={}, overrides=[f"status.socket_mode={mode}"]).status.socket_mode == mode


@pytest.mark.parametrize("mode", ["0666", "0777", "660 ", "rw-rw----", "9", "0o660", ""])
def test_a_mode_that_lets_everybody_in_is_refused(empty: Path, mode: str) -> None:
    (problem,) = problems(empty, overrides=[f"status.socket_mode={mode}"])
    assert "nothing for others" in problem


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('\'{"vendor_id": "8086"}\'', id="string"),
        pytest.param('[\'{"vendor_id": "8086"}\']', id="list of strings"),
        pytest.param("{ vendor_id = '8086' }", id="table"),
        pytest.param("[{ vendor_id = '8086' }]", id="list of tables"),
    ],
)
def test_device_specs_are_strings_or_tables_one_or_many(file: Path, value: str) -> None:
    given_text(file, f"[pci]\ndevice_spec = {value}")
    (spec,) = load(file, environment={}, overrides=[]).pci.device_spec
    assert spec.vendor_id == "8086"


def test_device_specs_may_stand_in_the_environment_as_in_nova(empty: Path) -> None:
    variable = {"BRINGUP_PCI__DEVICE_SPEC": '[{"vendor_id": "8086"}, {"vendor_id": "10de"}]'}
    specs = load(empty, environment=variable, overrides=[]).pci.device_spec
    assert [spec.vendor_id for spec in specs] == ["8086", "10de"]


def test_every_wrong_field_of_every_device_spec_is_reported(file: Path) -> None:
    given_text(
        file,
        """[pci]
device_spec = ['{}', '{"vendor_id": 8086}', { address = { bus = 5 } }, '[{}, {"product_id": "g"}]']""",
    )
    assert [problem.partition(" = ")[0] for problem in problems(file)] == [
        "pci.device_spec[1].vendor_id",
        "pci.device_spec[2].address.bus",
        "pci.device_spec[3][1].product_id",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("2min", 120),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        ("500ms", 0.5),
        ("1.5 h", 5400),
        (".5s", 0.5),
        ("1w", 604800),
        ("1d 2hours 3minutes 4sec 5us", 93784.000005),
        ("7 µs", 0.000007),
    ],
)
def test_a_time_span_is_read_as_systemd_does(text: str, seconds: float) -> None:
    assert parse_time_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "s", "1x", "1h-30min", "-5s", "1..5s", "infinity", "1 h h", "1H", "1_0s"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time span"):
        parse_time_span(text)


@pytest.mark.parametrize("name", ["br int", "", "--all", "br-int-that-is-long", "br/int", "-br"])
def test_what_is_no_device_is_refused(empty: Path, name: str) -> None:
    (problem,) = problems(empty, overrides=[f"network.integration_bridge={name}"])
    assert problem == (
        f'network.integration_bridge = "{name}" (--set): '
        "give the name of a network device: at most 15 letters, digits and _.-"
    )


@pytest.mark.parametrize("address", ["unix:/run/openvswitch/db.sock", "tcp:127.0.0.1:6640", "ssl:[::1]:6640"])
def test_the_database_of_open_vswitch_has_its_own_addresses(empty: Path, address: str) -> None:
    assert load(empty, environment={}, overrides=[f"network.ovsdb={address}"]).network.ovsdb == address


@pytest.mark.parametrize("address", ["/run/db.sock", "unix:db.sock", "tcp:127.0.0.1", "http://h:1", "unix:/a b", ""])
def test_what_is_no_address_of_a_database_is_refused(empty: Path, address: str) -> None:
    (problem,) = problems(empty, overrides=[f"network.ovsdb={address}"])
    assert "give an address such as" in problem


@pytest.mark.parametrize(
    "host",
    [
        "999.0.0.1",
        "127.0.0.01",
        "xn--a",
        "xn--",
        "[v1.a]",
        "[::1]evil",
        "[::1].evil",
        "localhost%2eevil",
        "%6cocalhost",
        "127.0.0.1\\.evil",
        "localhost|evil",
        "a..b",
        "..",
        "{a}",
        f"{'a' * 64}.example",
        "a." * 200,
        f"host/{'a' * 70_000}",
    ],
)
@pytest.mark.parametrize("key", ["placement.url", "keystone.auth_url", "scheduler.url"])
def test_a_host_that_two_libraries_take_for_different_ones_is_no_address(empty: Path, key: str, host: str) -> None:
    (problem,) = (each for each in problems(empty, overrides=[f"{key}=http://{host}"]) if each.startswith(f"{key} = "))
    assert 'give an address such as "http://controller:8778"' in problem


def test_rules_of_the_order_are_tables(file: Path) -> None:
    given_text(
        file,
        f"""
        [[pace.rules]]
        uuid = "{UUID.upper()}"
        priority = -7

        [[pace.rules]]
        project = "p"
        name = "web-*"
        after = ["db", "cache"]
        ready = "agent"
        """,
    )

    assert load(file, environment={}, overrides=[]).pace.rules == (
        PaceRule(uuid=UUID, keys=PaceKeys(-7)),
        PaceRule(project="p", name="web-*", keys=PaceKeys(None, ("db", "cache"), "agent")),
    )


@pytest.mark.parametrize(
    ("rules", "path", "right"),
    [
        ("5", "[0]", "a table"),
        ("[{ priority = 5 }]", "[0]", "one of project, flavor, name, uuid at least, which say what the rule is for"),
        ('[{ name = "a" }]', "[0]", "one of priority, after, ready at least"),
        ('[{ name = "a", priority = "5" }]', "[0].priority", "a whole number from -100 to 100"),
        ('[{ name = "a", priority = true }]', "[0].priority", "a whole number from -100 to 100"),
        ('[{ name = "a", priority = 101 }]', "[0].priority", "a whole number from -100 to 100"),
        ('[{ name = "a", after = [] }]', "[0].after", "a list of names or UUIDs of guests of this host, 32 at most"),
        ('[{ name = "a", ready = "soon" }]', "[0].ready", "one of agent, quiet, started"),
        ('[{ name = " ", priority = 1 }]', "[0].name", "a name, with * and ? for what may differ"),
        ('[{ uuid = "b", priority = 1 }]', "[0].uuid", "a UUID"),
        (
            '[{ name = "a", priority = 1 }, { name = "b", priority = 1, host = "c" }]',
            "[1].host",
            "one of the keys project, flavor, name, uuid, priority, after, ready",
        ),
    ],
)
def test_a_wrong_rule_of_the_order_is_told_by_its_place(empty: Path, rules: str, path: str, right: str) -> None:
    (told,) = problems(empty, overrides=[f"pace.rules={rules}"])

    assert told.startswith(f"pace.rules{path} = ")
    assert told.endswith(f" (--set): give {right}")
