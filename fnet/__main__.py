"""`python -m fnet`: the command line."""

from fnet.cli.app import main

main()
