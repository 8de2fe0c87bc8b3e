"""`python -m api.cli`: the command without its console script."""

from api.cli import main

main()
