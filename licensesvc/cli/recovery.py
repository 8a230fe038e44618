"""Commands against a lost disk: `backup` (also beside a running server), `backup-key`, `restore`."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import click

from licensesvc.cli.errors import FAILED, Failure
from licensesvc.cli.options import data_dir_option, json_option, print_facts, settings_of

if TYPE_CHECKING:
    from licensesvc.services.upkeep.audit_database import AuditReport
    from licensesvc.services.upkeep.restore import Verified
    from licensesvc.settings import Settings
    from licensesvc.signing.agefile import Unlock

_STAGING: Final = ".restoring-"

passphrase_option = click.option("--passphrase", is_flag=True, help="Ask for a pass phrase.")
passphrase_file_option = click.option(
    "--passphrase-file", metavar="FILE", help="Take the pass phrase from the first line of a file; - is standard input."
)


@click.command()
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE")
@data_dir_option
@click.option("--recipient", "recipients", multiple=True, metavar="AGE1…", help="Encrypt for this age recipient.")
@passphrase_option
@passphrase_file_option
@json_option
def backup(
    target: Path,
    data_dir: str | None,
    recipients: Sequence[str],
    passphrase_file: str | None,
    *,
    passphrase: bool,
    as_json: bool,
) -> int:
    """Save database, keys and proofs of this moment in one encrypted FILE; a server may go on writing.

    It is encrypted for --recipient (default: the setting backup_recipient) or with a pass phrase.
    """
    settings = settings_of(data_dir=data_dir)
    from licensesvc.app import open_reader, open_runtime
    from licensesvc.domain.instants import rfc3339
    from licensesvc.services.upkeep.backup import BackupFigures, back_up
    from licensesvc.signing import agefile

    phrase = _passphrase(passphrase_file, ask=passphrase, new=True)
    named = recipients or ([settings.backup_recipient] if settings.backup_recipient and phrase is None else [])
    if bool(named) == (phrase is not None):
        raise click.UsageError("Name a recipient or a pass phrase, one of the two.")
    to = phrase if phrase is not None else [agefile.recipient(text) for text in named]

    async def save(report: Callable[[str, int], None]) -> BackupFigures:
        async with open_runtime(settings, open_reader) as rt:
            return await back_up(rt, settings.data, target, to, report)

    with _progress() as report:
        figures = asyncio.run(save(report))
    print_facts(
        {
            "file": figures.file,
            "state_of": rfc3339(figures.state_of),
            "rows": figures.rows,
            "proofs": figures.proofs,
            "bytes": figures.bytes,
            "seconds": round(figures.seconds, 3),
            "missing_proofs": figures.missing_proofs,
        },
        as_json=as_json,
    )
    return FAILED if figures.missing_proofs else 0


@click.command("backup-key")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@json_option
def backup_key(file: Path, *, as_json: bool) -> None:
    """Make an age identity for backups in FILE and print its recipient; keep FILE away from the server."""
    from licensesvc.signing.agefile import create_identity

    print_facts({"recipient": create_identity(file), "identity_file": str(file)}, as_json=as_json)


@click.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE")
@data_dir_option
@click.option(
    "--identity-file", type=click.Path(path_type=Path), metavar="FILE", help="Decrypt with this age identity."
)
@passphrase_option
@passphrase_file_option
@json_option
def restore(
    source: Path,
    data_dir: str | None,
    identity_file: Path | None,
    passphrase_file: str | None,
    *,
    passphrase: bool,
    as_json: bool,
) -> int:
    """Bring a backup back into an empty data directory, and an empty database where the settings name one.

    Everything is verified before anything is written; nothing that exists is overwritten.
    """
    settings = settings_of(data_dir=data_dir)
    from licensesvc.domain.instants import rfc3339
    from licensesvc.services.upkeep.restore import verify_backup
    from licensesvc.signing import agefile

    phrase = _passphrase(passphrase_file, ask=passphrase, new=False)
    if (identity_file is None) == (phrase is None):
        raise click.UsageError("Name an identity file or a pass phrase, one of the two.")
    unlock = agefile.load_identities(identity_file) if identity_file is not None else phrase
    assert unlock is not None
    began = monotonic()
    _refuse_existing(settings)
    verified = verify_backup(source, unlock)
    with _progress() as report:
        audited = _restore(settings, source, unlock, verified, report)
    print_facts(
        {
            "data_dir": str(settings.data),
            "state_of": rfc3339(verified.header.state_of),
            "rows": verified.rows,
            "proofs": verified.end.proofs,
            "seconds": round(monotonic() - began, 3),
            "audit": "clean"
            if audited.clean
            else [f"{found.check}: {found.subject}: {found.problem}" for found in audited.findings],
        },
        as_json=as_json,
    )
    if verified.header.issuer != settings.issuer:
        click.echo(
            f"licensesvc: software expects issuer {verified.header.issuer!r}: set it before you serve, it is {settings.issuer!r} now",
            err=True,
        )
    return 0 if audited.clean else FAILED


def _restore(
    settings: "Settings", source: Path, unlock: "Unlock", verified: "Verified", report: Callable[[str, int], None]
) -> "AuditReport":
    """Restore beside the final place and audit it there; only what is whole is moved, the keys last."""
    import msgspec

    from licensesvc.cli.datalock import data_lock
    from licensesvc.signing.privatefiles import private_directory

    is_new = not settings.data.exists()
    private_directory(settings.data)
    try:
        with data_lock(settings.lock_file):
            _refuse_existing(settings)
            for left in settings.data.glob(f"{_STAGING}*"):  # by a restore that was killed
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(dir=settings.data, prefix=_STAGING) as staging:
                staged = msgspec.structs.replace(settings, data_dir=staging)
                audited = asyncio.run(_load(staged, source, unlock, verified, report))
                for name in ("database_file", "proofs_dir", "signing_keys_file", "vault_keys_file"):
                    if (made := getattr(staged, name)).exists():
                        made.rename(getattr(settings, name))
    except BaseException:
        if is_new:
            shutil.rmtree(settings.data)
        raise
    return audited


async def _load(
    settings: "Settings", source: Path, unlock: "Unlock", verified: "Verified", report: Callable[[str, int], None]
) -> "AuditReport":
    from licensesvc.app import now, open_database, open_runtime
    from licensesvc.services.upkeep.audit_database import audit_database
    from licensesvc.services.upkeep.restore import load_backup
    from licensesvc.signing.privatefiles import private_directory

    private_directory(settings.proofs_dir)
    db = await open_database(settings)
    try:
        await load_backup(db, source, unlock, verified, data=settings.data, now=now(), progress=report)
    finally:
        await db.close()
    async with open_runtime(settings) as rt:
        return await audit_database(rt, report)


def _refuse_existing(settings: "Settings") -> None:
    for path in (settings.database_file, settings.signing_keys_file, settings.vault_keys_file):
        if path.exists():
            raise Failure(f"{path} exists already, and a restore overwrites nothing: name another --data-dir")
    if settings.proofs_dir.exists() and any(settings.proofs_dir.iterdir()):
        raise Failure(f"{settings.proofs_dir} holds proofs, and a restore overwrites nothing: name another --data-dir")


def _passphrase(file: str | None, *, ask: bool, new: bool) -> str | None:
    from licensesvc.signing.agefile import PASSPHRASE_CHARACTERS

    if file is not None:
        phrase = (sys.stdin.readline() if file == "-" else _first_line(Path(file))).rstrip("\r\n")
    elif ask:
        phrase = click.prompt("Pass phrase", hide_input=True, confirmation_prompt=new, err=True)
    else:
        return None
    if new and len(phrase) < PASSPHRASE_CHARACTERS:
        raise click.UsageError(f"A pass phrase has at least {PASSPHRASE_CHARACTERS} characters.")
    return str(phrase)


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Show how far each kind has come, where somebody looks."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), TextColumn("{task.completed}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def report(kind: str, done: int) -> None:
            if kind not in tasks:
                tasks[kind] = progress.add_task(kind, total=None)
            progress.update(tasks[kind], completed=done)

        yield report
