"""The command line: what an operator types, one line for what goes wrong.

In: commands, the HTTP server around the application, the demonstration. Out: what the commands bring about (`app`, `services`).
Modules of this package import nothing heavy before a command needs it, so `--help` is quick.
"""

from licensesvc.cli.program import main

__all__ = ["main"]
