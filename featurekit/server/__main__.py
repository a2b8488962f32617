"""`python -m featurekit.server FD`: serves as what is read from a file descriptor says.

`featurekit serve` becomes this process, which has loaded nothing but what serves.
"""

from __future__ import annotations

import sys

from featurekit.server.handover import received


def main() -> int:
    """Serve; returns the exit code."""
    told = received(int(sys.argv[1]))
    if told.workers > 1:
        from featurekit.server.workers import supervise

        return supervise(told, told.workers)
    import socket

    from featurekit.server.run import run

    if told.alive is not None:
        from featurekit.server.workers import end_with

        end_with(told.alive)
    run(told.settings, [socket.socket(fileno=told.descriptor)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
