"""The containers that weights come in; each reader looks at the header alone."""
