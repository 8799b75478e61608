"""Runs under Nova's own Python: makes and reads records with Nova's own objects, a line of JSON a request.

Nova is at hand only there; the tests talk to this over pipes (:class:`support.nova.Nova`).
"""

import json
import sys
import traceback
import uuid
from typing import Any

import nova.conf
from nova import config, context, objects, rpc
from nova.db import migration
from nova.db.main import api as db
from nova.network import model
from nova.scheduler.client import query
from oslo_utils import timeutils

CELL = "11111111-1111-4111-8111-111111111111"
STATES = ("uuid", "host", "vm_state", "task_state", "power_state", "terminated_at", "deleted", "system_metadata")


class Requests:
    """What may be asked; each method takes and gives JSON."""

    def __init__(self, conf: str) -> None:
        config.parse_args(["tests", "--config-file", conf])
        objects.register_all()
        self._context = context.get_admin_context()
        self._deleted = context.get_admin_context(read_deleted="yes")
        self._nodes: dict[str, Any] = {}

    def make_databases(self) -> None:
        conf = nova.conf.CONF
        cell0 = conf.api_database.connection.replace("nova_api", "nova_cell0")
        migration.db_sync(database="api")
        for cell_uuid, name, url, connection in (
            (objects.CellMapping.CELL0_UUID, "cell0", "none:///", cell0),
            (CELL, "cell1", conf.transport_url, conf.database.connection),
        ):
            cell = objects.CellMapping(
                self._context, uuid=cell_uuid, name=name, transport_url=url, database_connection=connection
            )
            cell.create()
            with context.target_cell(self._context, cell) as inside:
                migration.db_sync(context=inside)

    def take_databases(self, *, with_cell: bool) -> None:
        """Make databases that were copied this cloud's own; make the tables of a cell that was not among them."""
        conf = nova.conf.CONF
        cell = objects.CellMapping.get_by_uuid(self._context, CELL)
        cell.transport_url, cell.database_connection = conf.transport_url, conf.database.connection
        cell.save()
        if not with_cell:
            with context.target_cell(self._context, cell) as inside:
                migration.db_sync(context=inside)
        cell = objects.CellMapping.get_by_uuid(self._context, objects.CellMapping.CELL0_UUID)
        cell.database_connection = conf.api_database.connection.replace("nova_api", "nova_cell0")
        cell.save()

    def make_host(self, name: str, node_uuid: str) -> None:
        """Make what Nova has of a compute host: service, compute node, host mapping."""
        service = objects.Service(
            self._context,
            host=name,
            binary="nova-compute",
            topic="compute",
            report_count=1,
            last_seen_up=timeutils.utcnow(),
        )
        service.create()
        node = objects.ComputeNode(
            self._context,
            uuid=node_uuid,
            service_id=service.id,
            host=name,
            hypervisor_hostname=name,
            hypervisor_type="QEMU",
            hypervisor_version=7002000,
            vcpus=64,
            memory_mb=65536,
            local_gb=1000,
            vcpus_used=0,
            memory_mb_used=0,
            local_gb_used=0,
            free_ram_mb=65536,
            free_disk_gb=1000,
            disk_available_least=1000,
            current_workload=0,
            running_vms=0,
            cpu_info="{}",
            host_ip="127.0.0.1",
            cpu_allocation_ratio=16.0,
            ram_allocation_ratio=1.5,
            disk_allocation_ratio=1.0,
            supported_hv_specs=[objects.HVSpec(arch="x86_64", hv_type="kvm", vm_mode="hvm")],
            pci_device_pools=objects.PciDevicePoolList(objects=[]),
            metrics="[]",
            stats={},
            numa_topology=None,
        )
        node.create()
        self._nodes[name] = node.id
        cell = objects.CellMapping.get_by_uuid(self._context, CELL)
        objects.HostMapping(self._context, host=name, cell_mapping=cell).create()

    def make_instances(self, instances: list[dict[str, Any]]) -> None:
        """Make them with Nova's own objects, in one transaction."""
        with db.context_manager.writer.using(self._context):
            for given in instances:
                self._make_instance(given)

    def _make_instance(self, given: dict[str, Any]) -> None:
        given = dict(given)
        network_info, devices = given.pop("network_info", []), given.pop("block_devices", [])
        flavor = _flavor(given.pop("extra_specs", {}))
        host = given.get("host")
        values = {
            "user_id": "u1",
            "project_id": "p1",
            "memory_mb": 512,
            "vcpus": 1,
            "root_gb": 1,
            "ephemeral_gb": 0,
            "instance_type_id": 1,
            "flavor": flavor,
            "system_metadata": {},
            "metadata": {},
            "compute_id": self._nodes.get(str(host)),
            **given,
        }
        values.setdefault("node", host)
        instance = objects.Instance(self._context, **values)
        instance.create()
        # What the API has written before a service got the request: events go with it.
        objects.InstanceAction.action_start(self._context, instance.uuid, "create", want_result=False)
        instance.info_cache.network_info = _vifs(network_info)
        instance.info_cache.save()
        for device in devices:
            objects.BlockDeviceMapping(self._context, instance_uuid=instance.uuid, **device).create()

    def make_migrations(self, migrations: list[dict[str, Any]]) -> None:
        with db.context_manager.writer.using(self._context):
            for given in migrations:
                values = {"source_node": given["source_compute"], **given}
                objects.Migration(self._context, **values).create()

    def instances(self, uuids: list[str]) -> list[dict[str, Any]]:
        """Read them with Nova's own objects, deleted ones too."""
        return [self._instance(uuid) for uuid in uuids]

    def _instance(self, uuid: str) -> dict[str, Any]:
        found = objects.Instance.get_by_uuid(
            self._deleted, uuid, expected_attrs=["system_metadata", "metadata", "info_cache", "flavor"]
        )
        states = {name: getattr(found, name) for name in STATES}
        at = states["terminated_at"]
        return {
            **states,
            "terminated_at": None if at is None else at.isoformat(),
            "metadata": found.metadata,
            "name": found.name,
            "flavor": found.flavor.name,
            "vifs": [vif["id"] for vif in found.info_cache.network_info],
        }

    def save_instance(self, uuid: str, changes: dict[str, Any]) -> None:
        """Change a record as somebody else."""
        found = objects.Instance.get_by_uuid(self._context, uuid)
        for key, value in changes.items():
            if key == "host":
                # Nova wants the two together.
                found.node, found.compute_id = value, self._nodes.get(value)
            setattr(found, key, value)
        found.save()

    def make_volume(self, uuid: str, volume_id: str, path: str, device: str) -> None:
        """Attach a volume that is a file of the host: what Nova's libvirt driver needs no connector for."""
        info = {"driver_volume_type": "gpfs", "serial": volume_id, "data": {"device_path": path, "name": volume_id}}
        objects.BlockDeviceMapping(
            self._context,
            instance_uuid=uuid,
            source_type="volume",
            destination_type="volume",
            device_name=device,
            device_type="disk",
            disk_bus="virtio",
            boot_index=None,
            delete_on_termination=False,
            volume_id=volume_id,
            volume_size=1,
            connection_info=json.dumps(info),
            no_device=False,
        ).create()

    def migration_status(self, uuid: str) -> str:
        status: str = objects.Migration.get_by_uuid(self._context, uuid).status
        return status

    def uuids_of(self, host: str) -> list[str]:
        return sorted(objects.InstanceList.get_uuids_by_host(self._context, host))

    def select_destinations(self, group: list[str], only: str) -> list[str]:
        """Query the real scheduler whether one more of an anti-affinity group may come to the ``only`` host."""
        spec = objects.RequestSpec(
            self._context,
            num_instances=1,
            instance_uuid=str(uuid.uuid4()),
            flavor=_flavor(),
            image=objects.ImageMeta(properties=objects.ImageMetaProps()),
            project_id="p1",
            user_id="u1",
            availability_zone=None,
            scheduler_hints={},
            retry=None,
            requested_destination=objects.Destination(host=only, node=only),
            requested_resources=[],
            pci_requests=objects.InstancePCIRequests(requests=[]),
            numa_topology=None,
            force_hosts=None,
            force_nodes=None,
            ignore_hosts=None,
            limits=objects.SchedulerLimits(),
            request_level_params=objects.RequestLevelParams(),
            security_groups=objects.SecurityGroupList(objects=[]),
            network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
            is_bfv=False,
            instance_group=objects.InstanceGroup(
                uuid=str(uuid.uuid4()),
                policies=["anti-affinity"],
                policy="anti-affinity",
                rules={},
                members=group,
                hosts=[],
            ),
        )
        try:
            found = query.SchedulerQueryClient().select_destinations(
                self._context, spec, [spec.instance_uuid], return_objects=True
            )
        except Exception as error:
            if type(error).__name__.startswith("NoValidHost"):
                return []
            raise
        return [each[0].service_host for each in found]


def _flavor(extra_specs: dict[str, str] | None = None) -> Any:
    return objects.Flavor(
        id=1,
        name="m1.tiny",
        memory_mb=512,
        vcpus=1,
        root_gb=1,
        ephemeral_gb=0,
        flavorid="f1",
        swap=0,
        rxtx_factor=1.0,
        vcpu_weight=0,
        disabled=False,
        is_public=True,
        extra_specs=extra_specs or {},
        description=None,
    )


def _vifs(network_info: list[dict[str, Any]]) -> Any:
    return model.NetworkInfo.hydrate(network_info)


def main() -> None:
    """Answer until the pipe is closed."""
    requests = Requests(sys.argv[1])
    # What else is written there is not ours.
    out, sys.stdout = sys.stdout, sys.stderr
    rpc.init(nova.conf.CONF)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer: dict[str, Any] = {"result": getattr(requests, asked["method"])(**asked["arguments"])}
        except Exception:  # noqa: BLE001 - the test that asked is told
            answer = {"error": traceback.format_exc()}
        out.write(json.dumps(answer) + "\n")
        out.flush()
