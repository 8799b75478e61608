"""Runs under Nova's own Python: the start of a real nova-compute on a host whose hypervisor writes down what is asked.

``ComputeManager.init_host`` is Nova's, and its records come through nova-conductor; only the hypervisor and the
network service are ours.  Its argument is JSON that says where and with which guests; a line of JSON on standard output
says what was done.
"""

import json
import os
import sys
import time
import traceback
from typing import Any

import nova.conf
from nova import config, context, exception, objects, rpc
from nova.compute import manager
from nova.conductor import rpcapi
from nova.objects import base
from nova.virt import fake, hardware

RUNNING, PAUSED, SHUTDOWN = 1, 3, 4


class Hypervisor(fake.FakeDriver):  # type: ignore[misc]  # Nova has no types
    """Guests with power states; each verb takes its time and is written down."""

    guests: dict[str, int]
    node: str
    latency_s: float
    verbs: list[tuple[str, str]]

    def _verb(self, name: str, instance: Any, power: int | None = None) -> None:
        time.sleep(self.latency_s)
        self.verbs.append((name, instance.uuid))
        if power is not None:
            self.guests[instance.uuid] = power

    def init_host(self, host: str) -> None:
        self._host = host
        self._nodes = [host]

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:
        return {self.node: self._host}

    def list_instance_uuids(self) -> list[str]:
        return list(self.guests)

    def list_instances(self) -> list[str]:
        return list(self.guests)

    def instance_exists(self, instance: Any) -> bool:
        return instance.uuid in self.guests

    def get_info(self, instance: Any, use_cache: bool = True) -> Any:
        self._verb("get_info", instance)
        if instance.uuid not in self.guests:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        return hardware.InstanceInfo(state=self.guests[instance.uuid])

    def plug_vifs(self, instance: Any, network_info: Any) -> None:
        self._verb("plug_vifs", instance)

    def unplug_vifs(self, instance: Any, network_info: Any) -> None:
        self._verb("unplug_vifs", instance)

    def reboot(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        self._verb("reboot", instance, RUNNING)

    def power_on(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        self._verb("power_on", instance, RUNNING)

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        self._verb("power_off", instance, SHUTDOWN)

    def pause(self, instance: Any) -> None:
        self._verb("pause", instance, PAUSED)

    def unpause(self, instance: Any) -> None:
        self._verb("unpause", instance, RUNNING)

    def resume_state_on_host_boot(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        self._verb("resume_state_on_host_boot", instance, RUNNING)

    def destroy(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        self._verb("destroy", instance)
        self.guests.pop(instance.uuid, None)

    def cleanup(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        self._verb("cleanup", instance)

    def finish_revert_migration(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        self._verb("finish_revert_migration", instance, RUNNING)

    def live_migration_abort(self, instance: Any) -> None:
        self._verb("live_migration_abort", instance)

    def check_instance_shared_storage_local(self, context: Any, instance: Any) -> None:
        return None


class Counted:
    """nova-conductor, as nova-compute calls it; what is called is written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._api = rpcapi.ConductorAPI()

    def object_class_action_versions(self, context: Any, objname: str, objmethod: str, *args: Any) -> Any:
        self.calls.append((objname, objmethod))
        return self._api.object_class_action_versions(context, objname, objmethod, *args)

    def object_action(self, context: Any, objinst: Any, objmethod: str, args: Any, kwargs: Any) -> Any:
        self.calls.append((objinst.obj_name(), objmethod))
        return self._api.object_action(context, objinst, objmethod, args, kwargs)

    def object_backport_versions(self, *args: Any) -> Any:
        return self._api.object_backport_versions(*args)


class Network:
    """The network service: what the records say of an instance's NICs is so; whose ports are given back is kept."""

    def __init__(self) -> None:
        self.given_back: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None

    def deallocate_for_instance(self, context: Any, instance: Any, **kwargs: Any) -> None:
        self.given_back.append(instance.uuid)

    def get_instance_nw_info(self, context: Any, instance: Any, **kwargs: Any) -> Any:
        return instance.get_network_info()


def start(conf: str, node: str, guests: dict[str, int], latency_s: float) -> dict[str, Any]:
    """Start a compute service as far as ``init_host``; return what it did."""
    config.parse_args(["tests", "--config-file", conf])
    objects.register_all()
    rpc.init(nova.conf.CONF)
    conductor = Counted()
    base.NovaObject.indirection_api = conductor
    compute = manager.ComputeManager(compute_driver="fake.FakeDriver")
    hypervisor = Hypervisor(compute.virtapi)
    hypervisor.guests, hypervisor.node, hypervisor.latency_s, hypervisor.verbs = dict(guests), node, latency_s, []
    compute.driver = compute.rt.driver = hypervisor
    compute.network_api = network = Network()
    host = nova.conf.CONF.host
    service = objects.Service.get_by_host_and_binary(context.get_admin_context(), host, "nova-compute")
    conductor.calls.clear()
    began, error = time.monotonic(), None
    try:
        compute.init_host(service)
    except Exception:  # noqa: BLE001 - what Nova ends with is what is asked
        error = traceback.format_exc()
    return {
        "took_s": time.monotonic() - began,
        "error": error,
        "calls": conductor.calls,
        "verbs": hypervisor.verbs,
        "guests": hypervisor.guests,
        "ports_given_back": network.given_back,
    }


def main() -> None:
    """Do it once."""
    out, sys.stdout = sys.stdout, sys.stderr
    out.write(json.dumps(start(**json.loads(sys.argv[1]))) + "\n")
    out.flush()
    # Threads of oslo.messaging do not end by themselves.
    os._exit(0)
