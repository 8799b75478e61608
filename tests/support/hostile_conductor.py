"""Impostor of nova-conductor, without a broker."""

from collections.abc import Mapping
from typing import Any

from bringup.daemon.openstack.rpc.objects import primitive


class Hostile:
    """A nova-conductor of somebody who has the password of the cell's RabbitMQ."""

    where = "a peer"

    def __init__(self, *rows: Any, moves: tuple[Any, ...] = (), devices: tuple[Any, ...] = ()) -> None:
        self.rows, self.moves, self.devices = rows, moves, devices

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        del method, repeatable
        asked = arguments["objname"], arguments["objmethod"]
        uuids = [each["nova_object.data"].get("uuid") for each in self.rows if isinstance(each, dict)]
        objects = {"BlockDeviceMappingList": self.devices, "MigrationList": self.moves, "InstanceList": self.rows}
        if asked[1] == "get_uuids_by_host":
            return [uuid for uuid in uuids if isinstance(uuid, str)]
        if arguments["kwargs"].get("filters", {}).get("hidden"):
            return primitive("InstanceList", "2.0", {"objects": []})
        version = {"InstanceList": "2.0"}.get(asked[0], "1.0")
        return primitive(asked[0], version, {"objects": list(objects[asked[0]])})
