"""The process of a job: `python -m m2svid` with its words.

It notes itself how it ended, because the server that started it may be gone by then.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys


def main() -> None:
    """Run the verb of the command line, and write how it ended."""
    status: object = 1
    # A shell starts what it runs in the background with Ctrl-C ignored, but "Pause" is Ctrl-C for a job.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runpy.run_module("m2svid", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as stopped:
        status = stopped.code or 0
        raise
    except KeyboardInterrupt:  # before the command line has begun
        status = 130
        sys.exit(status)
    finally:
        sys.stderr.write(json.dumps({"event": "ended", "status": status}) + "\n")


if __name__ == "__main__":
    main()
