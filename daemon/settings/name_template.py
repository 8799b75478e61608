"""Nova's ``instance_name_template``: which texts are templates.  Pure.

Nova puts an instance's number into it (``instance-%08x``) or, where that does not fit, its fields by their names
(``%(hostname)s-%(id)x``).  A field that it does not know makes the UUID the whole name; anything else that does not
fit ends Nova's call in an error, and is no template.
"""

import re

CONVERSION = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?[#0\- +]*(?P<width>\*|\d{0,3})(?:\.(?P<precision>\*|\d{0,3}))?[hlL]?(?P<kind>.?)"
)
NUMBERS = "diouxXeEfFgG"
TEXTS = "rsa"
WIDEST = 255
"""A name longer than this is none, and ``%999999999d`` would be a gigabyte."""
TEXT_FIELDS = frozenset(
    {
        *("uuid", "hostname", "host", "node", "display_name", "display_description", "project_id", "user_id"),
        *("image_ref", "kernel_id", "ramdisk_id", "key_name", "key_data", "vm_state", "task_state", "user_data"),
        *("reservation_id", "availability_zone", "os_type", "architecture", "vm_mode", "root_device_name"),
        *("default_ephemeral_device", "default_swap_device", "config_drive", "launched_on", "locked_by", "cell_name"),
        *("ephemeral_key_uuid", "access_ip_v4", "access_ip_v6"),
        *("created_at", "updated_at", "deleted_at", "launched_at", "terminated_at"),
    }
)
"""Fields of Nova's Instance that are no numbers."""


def why_not(template: str) -> str | None:
    """Return why a text is no template; None: it is one."""
    found = [each for each in CONVERSION.finditer(template) if each["kind"] != "%" or each.group() != "%%"]
    if not found:
        return "all instances would have the same name"
    by_name = [each["key"] is not None for each in found]
    if any(by_name) and not all(by_name):
        return "fields by name and by position do not go together"
    if not any(by_name) and len(found) > 1:
        return "there is one number to put in, the instance's"
    return next((why for each in found if (why := _why_no_conversion(each)) is not None), None)


def _why_no_conversion(each: "re.Match[str]") -> str | None:
    kind, said = each["kind"], each.group()
    if kind not in NUMBERS + TEXTS or not kind:
        return f"{said} is no conversion of a number or a text"
    for size in (each["width"], each["precision"] or ""):
        if size == "*" or int(size or 0) > WIDEST:
            return f"{said} is too wide"
    if kind in NUMBERS and each["key"] in TEXT_FIELDS:
        return f"{said}: {each['key']} is a text, which goes with s"
    return None
