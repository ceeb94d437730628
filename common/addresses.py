"""Where a request comes from. Pure."""

from ipaddress import IPv6Address, ip_address, ip_network

NETWORK_BITS_V6 = 64  # what one subscriber gets: all of it is one client


def client_address(peer: str, forwarded_for: str, proxies: int) -> str:
    """The address of the client in front of so many proxies of our own. Each proxy appends whom it heard from to
    X-Forwarded-For, so what stands further left there is what the client claims, and nobody's word."""
    hops = [*(hop.strip() for hop in forwarded_for.split(",") if hop.strip()), peer] if proxies else [peer]
    return hops[max(0, len(hops) - 1 - proxies)]


def client_network(address: str) -> str:
    """What is counted as one client: an IPv4 address, or a network of IPv6. Anything else as it is spelled."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((int(found), NETWORK_BITS_V6), strict=False))
