"""What lets the tests reach their own servers: both the values and the setting, as a user would give it."""

from __future__ import annotations

from ipaddress import ip_network

from registry.installs.origins.access import Access

NETWORK = "127.0.0.0/8"
LOOPBACK = Access(networks=(ip_network(NETWORK),))
