"""Stands in a shell for a Python process that a fork server starts: `client.py SOCKET ARGUMENT …`.

It loads little, since it is started once for every command.
"""

import json
import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    asked = {
        "argv": sys.argv[2:],
        "cwd": os.getcwd(),  # noqa: PTH109 (pathlib takes as long to load as all of this)
        "env": dict(os.environ),
        "group": None,
        "told": "end",
    }
    data = json.dumps(asked).encode() + b"\n"
    sent = socket.send_fds(connection, [data], [0, 1, 2])
    connection.sendall(data[sent:])
    ended = int(connection.recv(32))
if os.WIFSIGNALED(ended):
    signal.signal(os.WTERMSIG(ended), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(ended))
sys.exit(os.WEXITSTATUS(ended))
