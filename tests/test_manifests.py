"""The manifests: that they are what their readers take, and that what they name is there."""

import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from bringup.daemon.cli.main import parser
from bringup.daemon.settings import load
from bringup.daemon.time_spans import seconds_of

REPOSITORY = Path(__file__).parents[1]
KUBERNETES = REPOSITORY / "container/kubernetes"
USER = 10001
WAVES = 20
"""How many instances in a row may take all of their time."""


def documents(name: str) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all((KUBERNETES / name).read_text())}


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = documents(name)["DaemonSet"]["spec"]["template"]["spec"]
    return spec


def sections(text: str) -> dict[str, dict[str, list[str]]]:
    """Read a unit file: by section and key, all values."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[section][key].append(value)
    return found


@pytest.mark.parametrize("name", ["sidecar.yaml", "once.yaml"])
def test_the_container_has_no_right_that_it_does_not_need(name: str) -> None:
    [bringup] = pod(name)["initContainers"]

    assert bringup["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "memory" in bringup["resources"]["limits"]
    assert f"USER {USER}:{USER}" in (REPOSITORY / "container/Containerfile").read_text()


@pytest.mark.parametrize("name", ["sidecar.yaml", "once.yaml"])
def test_every_mount_has_its_volume_and_the_command_line_is_one(name: str) -> None:
    [bringup] = pod(name)["initContainers"]

    mounted = {mount["name"]: mount["mountPath"] for mount in bringup["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod(name)["volumes"]}
    assert {"/var/lib/bringup", "/run/libvirt", "/etc/bringup", "/etc/machine-id"} <= set(mounted.values())
    assert callable(parser().parse_args(bringup["args"]).execute)
    assert pod(name)["hostNetwork"] is True
    strategy = documents(name)["DaemonSet"]["spec"]["updateStrategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


@pytest.mark.parametrize("name", ["kubernetes/sidecar.yaml", "kubernetes/once.yaml", "quadlet/bringup.container"])
def test_a_manifest_does_not_keep_quiet_about_what_its_limits_are_worth(name: str) -> None:
    assert "libvirt's socket is root of the host" in " ".join((REPOSITORY / "container" / name).read_text().split())


def test_whoever_copies_a_manifest_has_to_say_which_group_libvirts_socket_is_of() -> None:
    quadlet = sections((REPOSITORY / "container/quadlet/bringup.container").read_text())

    # A number would be some other group on most hosts; a word is refused.
    assert "--group-add=LIBVIRT_GID" in quadlet["Container"]["PodmanArgs"]
    for name in ("sidecar.yaml", "once.yaml"):
        assert pod(name)["securityContext"]["supplementalGroups"] == ["LIBVIRT_GID"]


def test_only_the_sidecar_stays() -> None:
    assert pod("sidecar.yaml")["initContainers"][0]["restartPolicy"] == "Always"
    assert "restartPolicy" not in pod("once.yaml")["initContainers"][0]


def test_the_settings_of_the_sidecar_are_right_and_the_probes_ask_where_it_listens(tmp_path: Path) -> None:
    config = tmp_path / "bringup.toml"
    config.write_text(documents("sidecar.yaml")["ConfigMap"]["data"]["bringup.toml"])
    settings = load(config, environment={}, overrides=())
    [bringup] = pod("sidecar.yaml")["initContainers"]

    probes = {kind: bringup[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {f"{probe['host']}:{probe['port']}" for probe in probes.values()} == {settings.status.listen}
    assert [probes[kind]["path"] for kind in ("startup", "readiness", "liveness")] == ["/readyz", "/readyz", "/livez"]


def test_the_pod_waits_longer_than_the_end_may_take() -> None:
    limits = load(None, environment={}, overrides=()).limits

    assert pod("sidecar.yaml")["terminationGracePeriodSeconds"] > limits.shutdown_report_deadline + 15


def test_the_quadlet_reports_what_the_unit_says() -> None:
    quadlet = sections((REPOSITORY / "container/quadlet/bringup.container").read_text())
    unit = sections((REPOSITORY / "systemd/bringup.service").read_text())

    assert quadlet["Container"]["Notify"] == ["true"]
    assert quadlet["Container"]["ReadOnly"] == ["true"]
    assert quadlet["Container"]["DropCapability"] == ["all"]
    assert quadlet["Container"]["NoNewPrivileges"] == ["true"]
    mounted = {value.split(":")[1] for value in quadlet["Container"]["Volume"]}
    assert {"/var/lib/bringup", "/run/libvirt", "/etc/bringup", "/etc/machine-id"} <= mounted
    for key in ("Restart", "RestartPreventExitStatus", "RestartSec", "WatchdogSec"):
        assert quadlet["Service"][key] == unit["Service"][key], key
    [limits] = [line for line in quadlet["Container"]["PodmanArgs"] if "memory" in line]
    [memory], [tasks], [files] = (unit["Service"][key] for key in ("MemoryMax", "TasksMax", "LimitNOFILE"))
    assert limits == f"--ulimit=nofile={files}:{files} --memory={memory.lower()} --pids-limit={tasks}"
    for key in ("StartLimitIntervalSec", "StartLimitBurst"):
        assert quadlet["Unit"][key] == unit["Unit"][key], key


def words(unit: dict[str, dict[str, list[str]]], key: str) -> set[str]:
    return {word for line in unit["Unit"][key] for word in line.split()}


def test_the_quadlet_has_its_place_between_the_same_units() -> None:
    quadlet = sections((REPOSITORY / "container/quadlet/bringup.container").read_text())
    unit = sections((REPOSITORY / "systemd/bringup.service").read_text())

    # Rules of nftables want a capability that the container has not.
    assert words(quadlet, "After") == words(unit, "After") - {"nftables.service"}
    for key in ("Before", "Wants"):
        assert words(quadlet, key) == words(unit, key)


def test_under_podman_a_slow_start_is_not_ended_and_the_end_has_its_time() -> None:
    quadlet = sections((REPOSITORY / "container/quadlet/bringup.container").read_text())
    limits = load(None, environment={}, overrides=()).limits
    [start], [stop] = (quadlet["Service"][f"Timeout{verb}Sec"] for verb in ("Start", "Stop"))
    arguments = dict(line.split("=", 1) for line in quadlet["Container"]["PodmanArgs"])

    # conmon lets no EXTEND_TIMEOUT_USEC= through: this is for the whole run, and one instance may take its deadline.
    assert seconds_of(start) >= WAVES * limits.instance_deadline
    podmans_s = seconds_of(arguments["--stop-timeout"])
    assert limits.shutdown_report_deadline + 15 < podmans_s < seconds_of(stop)


CHECK = re.compile(r'^RUN (case "\$BASE" in.*?esac)$', re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("base", "code"),
    [
        (f"docker.io/library/debian:12.11-slim@sha256:{'0' * 64}", 0),
        ("localhost/debian:12", 0),
        ("docker.io/library/debian:12.11-slim", 1),
        ("docker.io/localhost/debian", 1),
        ("", 1),
    ],
)
def test_the_base_of_the_image_is_named_by_its_digest_or_made_here(base: str, code: int) -> None:
    """An engine refuses an empty one before; this is the shell that the Containerfile runs first."""
    text = (REPOSITORY / "container/Containerfile").read_text()
    [script] = CHECK.findall(text)

    ended = subprocess.run(
        ["/bin/sh", "-c", script.replace("\\\n", "\n")], env={"BASE": base}, capture_output=True, check=False
    )

    assert ended.returncode == code
    # No default: whoever builds says which.
    assert re.findall(r"^ARG BASE.*$", text, re.MULTILINE) == ["ARG BASE", "ARG BASE"]
