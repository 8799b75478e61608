"""``store.instance_name_template`` is taken where Nova makes a name of it, and only there."""

import itertools
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from bringup.daemon.settings.name_template import why_not

FIELDS: dict[str, Any] = {"id": 42, "launch_index": 0, "uuid": "6f2f0c0e", "hostname": "web-1", "task_state": None}
PARTS = ("%", "%%", "s", "d", "4x", "(id)", "(hostname)", "(uuid)", "(nothing)", "c", "*", ".3", "-", "y", "(", "vm")


def novas_name(template: str) -> str:
    """Name an instance as ``nova.objects.Instance.name`` does."""
    try:
        return str(template % FIELDS["id"])
    except TypeError:
        try:
            return str(template % FIELDS)
        except KeyError:
            return str(FIELDS["uuid"])


@example("%s%s")
@example("%(id)08x")
@example("%(hostname)x")
@given(st.lists(st.sampled_from(PARTS), max_size=7).map("".join))
def test_what_is_taken_makes_a_name_in_nova(template: str) -> None:
    if why_not(template) is None:
        assert novas_name(template)


def test_what_is_refused_fails_in_nova_or_names_all_alike_or_is_no_name() -> None:
    for parts in itertools.chain.from_iterable(itertools.product(PARTS, repeat=length) for length in range(1, 5)):
        template = "".join(parts)
        if why_not(template) is None:
            continue
        try:
            name = novas_name(template)
        except (TypeError, ValueError):
            continue
        # What fails after a field that Nova does not know is never come to: the UUID is the name.
        by_luck = "(nothing)" in template
        alike = name == template.replace("%%", "%")
        assert alike or by_luck or "c" in template, template
