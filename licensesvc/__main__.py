"""`python -m licensesvc`: the same as the command `licensesvc`."""

from licensesvc.cli import main

main()
