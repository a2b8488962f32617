"""`python -m featurekit.server FD`: serves as what is read from a file descriptor says.

`featurekit serve` becomes this process, which has loaded nothing but what serves. A word behind FD
says to people what the process is for.
"""

from __future__ import annotations

import sys

from featurekit.server.handover import received


def main() -> int:
    """Serve; returns the exit code."""
    told = received(int(sys.argv[1]))
    if told.alive is None and (told.workers > 1 or told.settings.pushes is not None):
        from featurekit.server.workers import supervise

        return supervise(told, told.workers)
    import socket

    if told.alive is not None:
        from featurekit.server.workers import end_with

        end_with(told.alive)
    listening = socket.socket(fileno=told.descriptor)
    if told.pushes:
        from featurekit.server.pusher import run as push

        push(told.settings, listening)
    else:
        from featurekit.server.run import run

        run(told.settings, [listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
