"""From what is there to what is wanted: whatever the host has, the steps lead there, and once there they are none."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.network.rules.links import (
    AddBridge,
    AddTap,
    AddVeth,
    BridgeWanted,
    DeleteLink,
    Link,
    LinkAbsent,
    LinkWanted,
    PresentWanted,
    SetLink,
    Step,
    TapWanted,
    VethWanted,
    names_of,
    steps_to,
)
from bringup.drivers.network.rules.vifs import VifProblem

NAMES = ("br0", "qbr1", "qvb1", "qvo1", "tap1", "eth0")
mtus = st.none() | st.sampled_from([1400, 1500])
wants: st.SearchStrategy[LinkWanted] = st.one_of(
    st.builds(BridgeWanted, name=st.sampled_from(NAMES), make=st.booleans(), mtu=mtus),
    st.builds(VethWanted, name=st.just("qvb1"), peer=st.just("qvo1"), master=st.just("qbr1"), mtu=mtus),
    st.builds(TapWanted, name=st.sampled_from(NAMES), mtu=mtus, multi_queue=st.booleans(), silent=st.booleans()),
    st.builds(PresentWanted, name=st.sampled_from(NAMES), master=st.just("br0"), mtu=mtus, required=st.booleans()),
)
hosts = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        Link,
        name=st.just(""),
        kind=st.sampled_from([None, "bridge", "veth", "tun"]),
        master=st.sampled_from([None, "br0", "elsewhere"]),
        mtu=st.sampled_from([1400, 1500]),
        up=st.booleans(),
    ),
).map(lambda links: {name: replace(link, name=name) for name, link in links.items()})


def carried_out(steps: tuple[Step, ...], seen: Mapping[str, Link]) -> dict[str, Link]:
    """Do what the kernel would; a step that it would refuse is a KeyError or an assertion."""
    host = dict(seen)
    for step in steps:
        match step:
            case AddBridge():
                bridge = Link(name=step.name, kind="bridge", mtu=step.mtu or 1500, up=False)
                assert host.setdefault(step.name, bridge).kind == "bridge"
            case AddTap():
                tap = Link(name=step.name, kind="tun", mtu=1500, up=False)
                assert step.silent or step.name not in host
                assert host.setdefault(step.name, tap).kind == "tun"
            case AddVeth():
                for name in (step.name, step.peer):
                    assert name not in host
                    host[name] = Link(name=name, kind="veth", mtu=1500, up=False)
            case SetLink():
                old = host[step.name]
                host[step.name] = replace(
                    old, up=True, master=step.master or old.master, mtu=old.mtu if step.mtu is None else step.mtu
                )
            case DeleteLink():
                del host[step.name]
    return host


@given(wants, hosts)
def test_the_steps_lead_there_and_no_further(want: LinkWanted, host: dict[str, Link]) -> None:
    try:
        steps = steps_to([want], host)
    except (VifProblem, LinkAbsent):
        return
    after = carried_out(steps, host)
    assert steps_to([want], after) == ()
    touched = set(names_of([want]))
    assert {name: link for name, link in after.items() if name not in touched} == {
        name: link for name, link in host.items() if name not in touched
    }


@given(wants, hosts)
def test_killed_after_any_step_and_begun_again_the_end_is_the_same(want: LinkWanted, host: dict[str, Link]) -> None:
    try:
        steps = steps_to([want], host)
    except (VifProblem, LinkAbsent):
        return
    whole = carried_out(steps, host)
    for done in range(len(steps)):
        halfway = carried_out(steps[:done], host)
        assert carried_out(steps_to([want], halfway), halfway) == whole


@given(wants, hosts)
def test_what_is_in_a_bridge_stays_in_it(want: LinkWanted, host: dict[str, Link]) -> None:
    try:
        steps = steps_to([want], host)
    except (VifProblem, LinkAbsent):
        return
    deleted = {step.name for step in steps if isinstance(step, DeleteLink)}
    after = carried_out(steps, host)
    for name, link in host.items():
        if link.master is not None and name not in deleted:
            assert after[name].master == link.master
