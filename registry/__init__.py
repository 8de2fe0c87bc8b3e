"""What do we have, and where? The registry: models, installs, recipes, weight bundles."""
