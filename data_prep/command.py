"""The frame of the commands of this package: messages, exit codes, and how mistakes end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rich.console import Console
from rich.logging import RichHandler

from m2svid.errors import UserError


def run_command(prog: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit code; a user's mistake ends in one sentence and 2, Ctrl-C in 130.

    Args:
        prog: start of the sentence.
        command: parses the command line and does everything.
    """
    console = Console(stderr=True, soft_wrap=True)
    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", datefmt="[%X]", handlers=[handler])
    try:
        return command()
    except UserError as error:
        console.print(f"{prog}: {error}", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print(f"{prog}: interrupted; the same command continues", markup=False, highlight=False)
        return 130
