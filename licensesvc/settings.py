"""Settings of one process: defaults, then `licensesvc.toml` in the data directory, then `LICENSESVC_*` variables, then options.

A name that no setting has is refused wherever it stands, so a misspelt one is never silently ignored.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

ENVIRONMENT_PREFIX = "LICENSESVC_"
FILE_NAME = "licensesvc.toml"

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Days = Annotated[int, msgspec.Meta(ge=0, le=36_500)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$(?!\n)")]
MailUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^((smtp|smtps|smtp\+plain)://([^\s:@/]+(:[^\s@/]*)?@)?[A-Za-z0-9.-]+(:([0-9]{1,4}|[1-5][0-9]{4}))?)?$(?!\n)"
    ),
]
MailAddress = Annotated[str, msgspec.Meta(pattern=r"^([!-~]{1,64}@[A-Za-z0-9.-]{1,255})?$(?!\n)")]


class SettingsError(Exception):
    """A setting is unknown or has a value that it cannot take."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting with its default; the name in the environment is the upper-case name behind `LICENSESVC_`."""

    data_dir: Annotated[str, msgspec.Meta(min_length=1)] = "data"
    """Directory of the database, the keys and the proofs (created 0700)."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on; 0 takes a free one and prints it."""
    database_url: str = ""
    """PostgreSQL DSN (`postgresql://…`); empty = SQLite in the data directory."""
    node: Name = "main"
    """Name of this writing process: its audit chain. Different for every process that shares a database."""
    issuer: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "licensesvc"
    """`iss` of signed licenses and receipts; choose it once, software checks it."""
    public_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?/?)?$(?!\n)"
        ),
    ] = ""
    """Base URL under which the marketplace reaches this server; callback URLs are shown with it."""
    lock_scope: Literal["key-and-address", "key"] = "key-and-address"
    """What is locked after more than 5 bad signatures in a row; `key` is the gateway's own behavior."""
    trusted_proxies: str = "127.0.0.0/8, ::1"
    """Addresses and networks, comma-separated, whose `X-Forwarded-For` is believed."""
    tls_cert: str = ""
    """PEM file with the certificate chain; with `tls_key` the server speaks HTTPS, and reads both again on SIGHUP."""
    tls_key: str = ""
    """PEM file with the private key of `tls_cert`, without passphrase, closed to other users."""
    max_connections: Count = 4_096
    """Connections served at once; further ones are answered 503."""
    drain_seconds: Annotated[float, msgspec.Meta(ge=0, le=300)] = 0.0
    """How long to go on serving, with `/readyz` at 503, once told to stop: what a load balancer needs to notice."""
    limit_unknown_codes: Count = 60
    """Unknown license codes a minute for one credential and client address, or one address of the native API."""
    limit_bad_tokens: Count = 20
    """Wrong admin tokens a minute for one client address; as many buyer's links that open nothing, and delivery packs that are none."""
    limit_seats_given_back: Count = 1_000
    """Seats of one license that may be given back an hour; twice its seats if that is more."""
    outbound_networks: str = ""
    """Networks, comma-separated, that configured calls may reach though not public; loopback there also allows `http://`, for development."""
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    """Port that serves `/metrics` and nothing else; unset = only the control socket does."""
    metrics_host: str = "127.0.0.1"
    """Address of `metrics_port`; metrics tell what you sell, so keep it inside."""
    otlp_endpoint: str = ""
    """Where traces go (OTLP over HTTP, `http://…:4318/v1/traces`); empty = no traces. Needs the extra `telemetry`."""
    least_free_mib: Annotated[int, msgspec.Meta(ge=0)] = 64
    """`/readyz` turns red when the file system of the data directory has less free (MiB)."""
    smtp_url: MailUrl = ""
    """Mail server: `smtp://user:password@host:587` (STARTTLS required), `smtps://…` (TLS) or `smtp+plain://` (a relay on this host)."""
    mail_from: MailAddress = ""
    """Address that mail to buyers and alerts come from; without it and `smtp_url` no mail is sent."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log record that is written (JSON lines on stderr)."""
    keep_messages_days: Days = 180
    """Days that interface messages are kept; 0 keeps them for good."""
    keep_outbox_days: Days = 30
    """Days that finished background work is kept; 0 keeps it for good."""
    keep_released_activations_days: Days = 365
    """Days that activations are kept after their seat was given back; 0 keeps them for good."""
    keep_usage_days: Days = 400
    """Days for which the number of clients that used a license is kept; 0 keeps them for good."""
    reconcile_at: Annotated[str, msgspec.Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$(?!\n)")] = "03:30"
    """When each connection's orders are compared with the marketplace (HH:MM in its calendar zone, up to 20 minutes later); empty = never."""
    reconcile_per_minute: Annotated[int, msgspec.Meta(ge=1, le=6_000)] = 30
    """Orders that are asked for in a minute while they are compared."""
    reconcile_expiring_days: Annotated[int, msgspec.Meta(ge=0, le=3_650)] = 14
    """Licenses that expire, or expired, within so many days are compared too; 0 = only orders whose supervision is not completed."""
    keep_alerts_days: Days = 365
    """Days that alerts are kept after they were over; 0 keeps them for good."""
    keep_webhook_deliveries_days: Days = 30
    """Days that webhook deliveries are kept after their end; 0 keeps them for good."""
    webhook_failing_days: Days = 5
    """Days without one good answer after which a failing webhook endpoint is disabled; 0 = never."""
    backup_dir: str = ""
    """Directory of the backups that the server makes by itself, needs `backup_recipient`; empty = none. Best on another disk."""
    backup_every_hours: Annotated[int, msgspec.Meta(ge=1, le=8_760)] = 24
    """Hours between two of these backups."""
    backup_keep: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 7
    """How many of these backups are kept, the newest."""
    backup_recipient: str = ""
    """age recipient (`age1…`) of backups; the identity that decrypts them does not belong on the server."""

    def __post_init__(self) -> None:
        """Refuse networks that are none."""
        _ = self.trusted_networks, self.reachable_networks

    def __repr__(self) -> str:
        return f"Settings(data_dir={self.data_dir!r}, host={self.host!r}, port={self.port})"

    @property
    def trusted_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks of `trusted_proxies`; ValueError for a text that is none."""
        return _networks(self.trusted_proxies)

    @property
    def reachable_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks of `outbound_networks`; ValueError for a text that is none."""
        return _networks(self.outbound_networks)

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def database_file(self) -> Path:
        """The SQLite database."""
        return self.data / "licensesvc.db"

    @property
    def signing_keys_file(self) -> Path:
        """The keyset that signs licenses and receipts."""
        return self.data / "signing-keys.json"

    @property
    def vault_keys_file(self) -> Path:
        """The keys that seal secrets and codes at rest."""
        return self.data / "vault-keys.json"

    @property
    def proofs_dir(self) -> Path:
        """Delivery proofs, content-addressed."""
        return self.data / "proofs"

    @property
    def control_socket(self) -> Path:
        """Where writing commands reach a running server."""
        return self.data / "control.sock"

    @property
    def lock_file(self) -> Path:
        """Held by the one process that may write to this data directory."""
        return self.data / "lock"


def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in map(str.strip, text.split(",")) if part)


def load(options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """Merge the sources; raise SettingsError with one line that names the setting and the source."""
    given = {name: value for name, value in options.items() if value is not None}
    from_environment = _from_environment(environment)
    data_dir = given.get("data_dir") or from_environment.get("data_dir") or Settings().data_dir
    merged = {**_from_file(Path(data_dir) / FILE_NAME), **from_environment, **given}
    return _convert(merged, "options")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    for name in found:
        if name not in Settings.__struct_fields__:
            raise SettingsError(f"unknown setting {ENVIRONMENT_PREFIX}{name.upper()} in the environment")
    _convert(found, "the environment")
    return found


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if "data_dir" in found:
        raise SettingsError(f"{path}: data_dir cannot be set in the file that lies in it")
    _convert(found, str(path))
    return found


def _convert(values: Mapping[str, Any], source: str) -> Settings:
    try:
        return msgspec.convert(dict(values), Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {error}") from None
