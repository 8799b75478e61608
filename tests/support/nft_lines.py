"""Which lines a ruleset of ours may have: every word of each is known, or is a number, an address or a name of ours."""

import re
from typing import Final

_DEVICE: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}"
_NUMBER: Final = r"\d{1,5}"
_MAC: Final = r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"
_IPV4: Final = r"\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?"
_IPV6: Final = r"(?=[0-9a-f:.]*:)[0-9a-f:.]{2,45}(?:/\d{1,3})?"
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VALUE: Final = rf"(?:{_MAC}|{_IPV4}|{_IPV6})"
_ELEMENT: Final = rf"{_VALUE}(?: \. {_VALUE})*"
_TRANSPORT: Final = "(?:tcp|udp|sctp|dccp|udplite)"
_ADDRESSED: Final = "ether saddr|arp saddr ether|arp saddr ip|ip6? [sd]addr"
_FIELD: Final = rf"(?:{_ADDRESSED}|{_TRANSPORT} [sd]port|icmp(?:v6)? (?:type|code))"
_FIELDS: Final = rf"{_FIELD}(?: \. {_FIELD})*"
_ICMP: Final = r"(?:[a-z]+2?-)+[a-z]+"
_TYPES: Final = r"(?:ip6?|arp|8021q|8021ad|0x8035)"
_SET: Final = rf"@udp[46]\.{_DEVICE}"
_STATEMENT: Final = "|".join(
    (
        "accept",
        "counter drop",
        rf"ether type == \{{ {_TYPES}(?:, {_TYPES})* \}}",
        rf"{_FIELDS} [!=]= \{{ {_ELEMENT}(?:, {_ELEMENT})* \}}",
        rf"icmp(?:v6)? type == \{{ {_ICMP}(?:, {_ICMP})* \}}",
        rf"icmp(?:v6)? type == {_ICMP}",
        rf"{_FIELD} == (?:{_VALUE}|{_NUMBER}(?:-{_NUMBER})?)",
        r"meta l4proto == (?:tcp|udp|sctp|dccp|udplite|icmp|icmpv6|\d{1,3})",
        r"@th,64,\d{1,3} == 0x[0-9a-f]{1,32}",
        rf"{_FIELDS} == {_SET}",
        rf"update {_SET} \{{ {_FIELDS} \}}",
        r"ip frag-off & 0x1fff != 0",
        r"frag frag-off != 0",
        r"tcp flags & \(syn \| ack\) != syn",
    )
)
_CHAIN: Final = rf"(?:from|to)\.{_DEVICE}"
_T: Final = "bridge bringup"
_LINE: Final = re.compile(
    "|".join(
        (
            rf"add table {_T}",
            rf"add map {_T} (?:from|to)-guests \{{ type ifname : verdict; \}}",
            (
                rf"add chain {_T} (?:from|to)-guests "
                r"\{ type filter hook (?:pre|post)routing priority -200; policy accept; \}"
            ),
            rf"flush chain {_T} (?:from|to)-guests",
            rf"add rule {_T} (?:from|to)-guests (?:iifname|oifname) vmap @(?:from|to)-guests",
            rf"(?:add|flush|delete) chain {_T} {_CHAIN}",
            rf'(?:add|delete) element {_T} (?:from|to)-guests \{{ "{_DEVICE}" : jump {_CHAIN} \}}',
            (
                rf"add set {_T} udp[46]\.{_DEVICE} \{{ type ipv[46]_addr \. inet_service \. inet_service; "
                r"flags dynamic, timeout; timeout 180s; size 4096; \}"
            ),
            rf"delete set {_T} udp[46]\.{_DEVICE}",
            rf'add rule {_T} {_CHAIN} (?:{_STATEMENT})(?: (?:{_STATEMENT}))*(?: comment "{_UUID}")?',
        )
    )
)


def foreign_lines(ruleset: str) -> list[str]:
    """Return the lines that no ruleset of ours has."""
    return [line for line in ruleset.removesuffix("\n").split("\n") if not _LINE.fullmatch(line)]
