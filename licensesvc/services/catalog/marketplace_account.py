"""The account with which we call the marketplace for a connection: its hosts and the seller's AK/SK, opened for one call."""

from licensesvc.domain.connection import MARKETPLACE_HOSTS
from licensesvc.marketplace.huawei.client import Account
from licensesvc.services.runtime import Runtime
from licensesvc.storage.connections import StoredConnection


class CannotAsk(Exception):
    """The connection has no AK/SK of the open API, or is gone: an operator must set it."""


def api_secret_context(public_id: str) -> str:
    """What the vault binds the open API secret of a connection to."""
    return f"connection:{public_id}:api_secret"


def account_of(rt: Runtime, stored: StoredConnection) -> Account:
    """Open the account of a connection; raises CannotAsk."""
    connection = stored.connection
    if stored.api_access_key is None or stored.api_secret is None:
        raise CannotAsk(f"connection {connection.public_id} has no api_access_key and api_secret: set both")
    hosts = tuple(f"https://{host}" for host in MARKETPLACE_HOSTS[connection.site])
    secret = rt.vault.open(stored.api_secret, api_secret_context(connection.public_id))
    return Account(
        hosts=(connection.base_url,) if connection.base_url else hosts,
        access_key=stored.api_access_key,
        secret_key=secret.decode(),
    )
