"""Turns what went wrong with TLS into what is wrong with a certificate, and what to write."""

from __future__ import annotations

import ssl
from typing import Any

from featurekit.online.store.deadlines import causes

_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_UNTRUSTED = (18, 19, 20, 21)
"""Numbers of OpenSSL for what a certificate was found to be."""

_CLOSED, _LOST = "Connection closed by server", (ConnectionResetError, BrokenPipeError)
"""How a connection ends, which is at times all that a client without a certificate is told."""
_UNREAD = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FILES = "ssl_ca_certs, ssl_certfile or ssl_keyfile"
_CLIENT = (
    "where it asks for a certificate of its clients, name yours and its key, "
    "?ssl_certfile=/path/to/client.pem&ssl_keyfile=/path/to/client.key"
)


def tls_failure(error: BaseException, url: str) -> str | None:
    """Why a connection by TLS to the server at `url` was not opened; None where it failed for
    another reason. Nothing of a certificate is shown."""
    if not url.startswith("rediss:"):
        return None
    for one in causes(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return _unverified(one)
        if isinstance(one, ssl.SSLEOFError) or _CLOSED in str(one) or isinstance(one, _LOST):
            return None if "ssl_certfile=" in url else f"it closed the connection; {_CLIENT}"
        if isinstance(one, ssl.SSLError):
            return _refused(one)
        if isinstance(one, _UNREAD):
            return f"{_FILES} names a file that cannot be read: {one.strerror}"
    return None


def _unverified(error: ssl.SSLCertVerificationError) -> str:
    match error.verify_code:
        case code if code in _UNTRUSTED:
            return (
                f"nobody who is trusted here has signed its certificate ({error.verify_message}); "
                "name the file of the authority that has, ?ssl_ca_certs=/path/to/ca.pem"
            )
        case code if code in (_OTHER_HOST, _OTHER_ADDRESS):
            return (
                f"its certificate is for another host ({error.verify_message.rstrip('.')}); write "
                "the URL with a name that is in the certificate, or let one be made for this name"
            )
        case code if code in (_NOT_YET, _EXPIRED):
            return f"{error.verify_message}; renew its certificate, and see this machine's clock"
    return f"its certificate is refused: {error.verify_message}"


def _refused(error: ssl.SSLError) -> str:
    reason: Any = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return "what it answers is not TLS; write redis:// for a port without TLS"
    if "ALERT" in reason and ("REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason):
        return f"it refuses this client; {_CLIENT}"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return "it refuses the certificate of this client; give one that an authority of it signed"
    if reason == "KEY_VALUES_MISMATCH":
        return "the key in ssl_keyfile is not that of the certificate in ssl_certfile"
    if "NO_CERTIFICATE" in reason or "NO_START_LINE" in reason or "PEM" in reason.upper():
        return f"{_FILES} names a file that holds no such thing"
    return f"it does not come to terms with this client ({reason or error})"
