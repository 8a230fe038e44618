"""The TLS side of the server: TLS 1.2 and newer, HTTP/1.1 only (the marketplace matches the case of a header name)."""

import ssl
import stat
from pathlib import Path

from licensesvc.cli.errors import Misconfigured
from licensesvc.settings import Settings
from licensesvc.signing.privatefiles import LooseFile

_OTHERS_OR_WRITABLE = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


class Certificate:
    """Certificate and key of the server; `context` serves them."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Load both; Misconfigured with one line when they cannot be used."""
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(["http/1.1"])
        self.reload()

    def reload(self) -> None:
        """Read both files again for the connections to come; what cannot be used raises and changes nothing."""
        try:
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._cert, self._key)
            _load(self.context, self._cert, self._key)
        except OSError as error:  # also ssl.SSLError
            problem = error.strerror or str(error)
            raise Misconfigured(f"cannot use tls_cert {self._cert} with tls_key {self._key}: {problem}") from None


def certificate_of(settings: Settings) -> Certificate | None:
    """The certificate that the settings name; None = plain HTTP."""
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise Misconfigured("tls_cert and tls_key go together: set both or none")
    return Certificate(Path(settings.tls_cert), Path(settings.tls_key)) if settings.tls_cert else None


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    # Certificate tools and secret mounts hand out symbolic links: what counts is the file behind them. A group may read it.
    mode = key.stat().st_mode
    if mode & _OTHERS_OR_WRITABLE:
        raise LooseFile(key, f"mode {stat.S_IMODE(mode):04o} lets others in", "run: chmod 640")
    context.load_cert_chain(cert, key, password=_no_passphrase)


def _no_passphrase() -> str:
    raise Misconfigured("tls_key is protected by a passphrase, which nobody could type at a restart: store it without")
