"""What the vault has sealed, read as a whole: does it open, and under which vault key does it lie?"""

from collections.abc import Callable, Mapping
from typing import Final

from licensesvc.services.access.authenticate_software import secret_context
from licensesvc.services.access.idempotency import answer_context
from licensesvc.services.buyer.buyer_links import token_context
from licensesvc.services.catalog.marketplace_account import api_secret_context
from licensesvc.services.catalog.open_connection import callback_key_context
from licensesvc.services.guard.manage_alert_channels import channel_secret_context
from licensesvc.services.interface_messages import request_context
from licensesvc.services.licenses.issue_license import code_context
from licensesvc.services.relay.relay_usage import client_context
from licensesvc.services.supervision.record_supervision import buyer_code_context
from licensesvc.services.webhooks.send_webhook import secret_context as webhook_secret_context
from licensesvc.signing.vault import CannotOpen, Vault
from licensesvc.storage import sealed
from licensesvc.storage.port import Tx
from licensesvc.storage.sealed import COLUMNS, SealedColumn, SealedValue

_CONTEXTS: Final[Mapping[tuple[str, str], Callable[[str], str]]] = {
    ("connections", "callback_key"): callback_key_context,
    ("connections", "api_secret"): api_secret_context,
    ("credentials", "secret"): secret_context,
    ("messages", "sealed_request"): request_context,
    ("alert_channels", "secret"): channel_secret_context,
    ("supervision_cases", "buyer_code"): buyer_code_context,
    ("webhook_secrets", "sealed"): webhook_secret_context,
    ("buyer_links", "sealed_token"): token_context,
    ("license_codes", "sealed"): code_context,
    ("idempotency_keys", "response"): answer_context,
    ("relay_usage", "client"): client_context,
}


class VaultKeysLost(Exception):
    """The vault keys here are not those that sealed the database: nothing could work, so nothing starts."""


def context_of(column: SealedColumn, value: SealedValue) -> str:
    """What the vault bound this value to."""
    return _CONTEXTS[column.table, column.column](value.owner)


def opens(vault: Vault, column: SealedColumn, value: SealedValue) -> bool:
    """Whether the vault opens this value."""
    try:
        vault.open(value.sealed, context_of(column, value))
    except CannotOpen:
        return False
    return True


async def require_vault(tx: Tx, vault: Vault) -> None:
    """Raise VaultKeysLost when none of the newest values opens, one per sealed column; a single damaged one stops nobody."""
    samples = [(column, value) for column in COLUMNS if (value := await sealed.newest(tx, column)) is not None]
    if samples and not any(opens(vault, column, value) for column, value in samples):
        raise VaultKeysLost(
            "the vault keys do not open what the database holds: put back the vault-keys.json that belongs to it, or"
            " restore a backup; without either, the codes and secrets in this database are lost for good"
        )


async def unopenable(tx: Tx, vault: Vault) -> list[str]:
    """One sample of each sealed column and vault key; those that do not open, as `table.column under key n`."""
    failed = []
    for column in COLUMNS:
        for key_id in sorted(await sealed.counts(tx, column)):
            value = await sealed.sample(tx, column, key_id)
            if value is not None and not opens(vault, column, value):
                failed.append(f"{column.table}.{column.column} under key {key_id}")
    return failed
