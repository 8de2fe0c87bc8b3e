"""Which machines may be spoken to, and Civitai among them: values, made from the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from registry.errors import HostRefused
from registry.sources import CIVITAI_PAGE, UrlSource

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = ip_network(
    "2000::/3"
)  # the only global addresses of IPv6 (RFC 4291, 2.4); others lead into networks of somebody's own
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits


@dataclass(frozen=True, slots=True)
class Access:
    """`hosts`: those whose addresses people may name, `*.` in front for all below, `*` for every one. `networks`: private ones that may be
    connected to nonetheless, over plain http as well.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def check_host(self, host: str) -> None:
        """Raises HostRefused. A literal address in `networks` needs no further leave."""
        host = host.lower().rstrip(".")
        if any(_fits(host, allowed.lower()) for allowed in self.hosts) or self._is_inside(host):
            return
        raise HostRefused(
            f"{host} is not among the hosts that may be installed from ({', '.join(self.hosts)}). Add it to "
            "MODELSHELF_ALLOWED_HOSTS, or download the file and install it by its path.",
            host=host,
        )

    def names(self, host: str) -> bool:
        """Whether it is one of `hosts` by more than `*`."""
        host = host.lower().rstrip(".")
        return any(allowed != "*" and _fits(host, allowed.lower()) for allowed in self.hosts)

    def admits(self, address: Address, *, secure: bool) -> bool:
        """Whether to connect: to public addresses over TLS, and to the private `networks`."""
        plain = _embedded(address)
        if any(plain.version == network.version and plain in network for network in self.networks):
            return True
        is_unicast = plain.version == 4 or plain in _UNICAST
        return secure and is_unicast and plain.is_global and not plain.is_multicast

    def _is_inside(self, host: str) -> bool:
        try:
            return self.admits(ip_address(host), secure=False)
        except ValueError:
            return False


def _fits(host: str, allowed: str) -> bool:
    return allowed in ("*", host) or (allowed.startswith("*.") and host.endswith(allowed[1:]))


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


ANYWHERE = Access(networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
"""For what this machine's own user names: a proxy."""

CIVITAI_FILE = re.compile(r"/api/download/models/(\d+)/?")  # of a version


@dataclass(frozen=True, slots=True)
class Civitai:
    """Where it is, and the key of an account there, which goes to that host alone."""

    endpoint: str = "https://civitai.com"
    token: str | None = field(default=None, repr=False)

    def has(self, source: UrlSource) -> bool:
        """Whether it is a file or a model's page there."""
        address, home = urlsplit(source.url), urlsplit(self.endpoint)
        is_model = CIVITAI_FILE.fullmatch(address.path) or CIVITAI_PAGE.fullmatch(address.path)
        return (address.scheme, address.netloc) == (home.scheme, home.netloc) and is_model is not None
