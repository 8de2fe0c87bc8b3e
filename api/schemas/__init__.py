"""What goes over the wire, by purpose. Tables of the registry are never answered as they are."""
