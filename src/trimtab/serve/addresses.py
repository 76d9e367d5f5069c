"""Which addresses are the open internet's: by lists of our own, so that it hangs on no release of the standard library.

Source: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890; read as of October 2024). Departures:
blocks that serve a protocol alone are refused too where the registry calls them reachable, and so is an address in a
public range that every machine of one cloud asks for what is its own.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

UNICAST = ip_network("2000::/3")  # whatever of IPv6 has been given out: with it go ::/96, fec0::/10, 5f00::/16 and more
INSIDE = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))  # hold an IPv4 one: mapped, and NAT64 (RFC 6052)
SPECIAL = tuple(map(ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "168.63.129.16/32",  # Azure's platform
    "2001::/23", "2001:db8::/32",  # protocols (Teredo, ORCHID, benchmarks) and documentation
    "2002::/16",  # 6to4 (deprecated by RFC 7526): whatever it holds goes by a relay
    "2620:4f:8000::/48", "3fff::/20",
)))  # fmt: skip


def public(address: str) -> bool:
    """Whether it is an address of the open internet: none that is private, of this machine or link, shared, reserved,
    multicast or a protocol's own, also where it stands inside an IPv6 one. False for what is no address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and any(found in one for one in INSIDE):
        found = IPv4Address(int(found) & 0xFFFFFFFF)
    if isinstance(found, IPv6Address) and found not in UNICAST:
        return False
    return not any(found in one for one in SPECIAL)
