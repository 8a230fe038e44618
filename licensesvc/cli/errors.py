"""What a command raises, as one line with an exit code: 2 for usage and configuration, 1 for what failed otherwise."""

from typing import Final

import click

FAILED: Final = 1
MISCONFIGURED: Final = 2
INTERRUPTED: Final = 130
"""As shells have it: 128 and the number of SIGINT."""


class Failure(click.ClickException):
    """Something did not work out; the text says what to do next."""

    exit_code = FAILED


class Misconfigured(Failure):
    """Nothing was tried, for settings, keys or schema are not right."""

    exit_code = MISCONFIGURED


def failure_of(error: Exception) -> Failure:
    """Put whatever a command raised into one line."""
    from licensesvc.app import NotReady
    from licensesvc.sandbox.state import StateError
    from licensesvc.services.upkeep.archive import ArchiveDamaged, ArchiveTooNew
    from licensesvc.services.upkeep.backup import BackupImpossible
    from licensesvc.services.upkeep.restore import NotEmpty
    from licensesvc.services.upkeep.sealed_values import VaultKeysLost
    from licensesvc.settings import SettingsError
    from licensesvc.signing.agefile import CannotDecrypt, UnusableRecipient
    from licensesvc.signing.keyset import KeysetDamaged
    from licensesvc.signing.privatefiles import LooseFile
    from licensesvc.signing.vault import VaultDamaged
    from licensesvc.storage.migrate import DatabaseTooNew, MigrationChanged
    from licensesvc.storage.port import StorageError

    match error:
        case Failure():
            return error
        case DatabaseTooNew() | MigrationChanged():
            return Misconfigured(f"{error}: install the release that wrote it")
        case (
            SettingsError()
            | NotReady()
            | VaultKeysLost()
            | LooseFile()
            | KeysetDamaged()
            | VaultDamaged()
            | StateError()
        ):
            return Misconfigured(str(error))
        case CannotDecrypt() | ArchiveDamaged() | ArchiveTooNew():
            return Failure(f"the backup cannot be restored: {error}; nothing was written")
        case UnusableRecipient():
            return Misconfigured(str(error))
        case NotEmpty() | BackupImpossible():
            return Failure(str(error))
        case StorageError() | OSError():
            return Failure(str(error))
        case _:
            return Failure(f"{type(error).__name__}: {error} (`licensesvc --debug …` shows where)")
