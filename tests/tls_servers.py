"""Servers that are reached by TLS, on this machine's own address, with certificates made for them.

A server that was built without TLS stands behind a forwarder, which speaks it in its place.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from featurekit.online.store.server import find_binary

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `ca` is the file of its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca = self._written(name, builder.sign(self._key, hashes.SHA256()), self._key).cert

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now + _DAY)
        )

    def pair(self, name: str, *, expired: bool = False) -> Pair:
        """A certificate for a host, or for a client of that name."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key.public_key())
        if expired:
            builder._not_valid_after = (dt.datetime.now(dt.UTC) - _DAY).replace(tzinfo=None)
        try:
            known: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            known = x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([known]), critical=False)
        return self._written(name, builder.sign(self._key, hashes.SHA256()), key)

    def _written(self, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
        pem = serialization.Encoding.PEM
        number = len(list(self.folder.iterdir()))
        made = Pair(self.folder / f"{name}-{number}.pem", self.folder / f"{name}-{number}.key")
        made.cert.write_bytes(cert.public_bytes(pem))
        made.key.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return made


@contextmanager
def forwarded(url: str, pair: Pair, ca: Path | None = None) -> Iterator[int]:
    """The port of a forwarder to the server at a unix:// URL; with `ca` it asks for a
    certificate of each client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    if ca is not None:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED

    path = urlsplit(url).path

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, near = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, near), pump(far, writer))

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # clients that refuse, or are refused
    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def served(folder: Path, pair: Pair, ca: Path, *, clients: bool) -> Iterator[int | None]:
    """The port of a Redis that speaks TLS itself; None where no server here was built with it."""
    port = _free_port()
    words = f"--port 0 --tls-port {port} --bind 127.0.0.1 --save --dir {folder}".split()
    words += ["--tls-cert-file", str(pair.cert), "--tls-key-file", str(pair.key)]
    words += ["--tls-ca-cert-file", str(ca), "--tls-auth-clients", "yes" if clients else "no"]
    for binary in _binaries():
        server = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)
        try:
            if _opens(server, port):
                yield port
                return
        finally:
            server.kill()
            server.wait()
    yield None


def _binaries() -> list[str]:
    names = ("redis-server", "valkey-server")
    on_path = [shutil.which(name, path=one) for one in os.get_exec_path() for name in names]
    return list(dict.fromkeys(one for one in [*on_path, str(find_binary())] if one))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _opens(server: subprocess.Popen[bytes], port: int) -> bool:
    while server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.01)
    return False
