"""`python -m gateway.cli`, the same as `tiergate`."""

from gateway.cli.main import main

main()
