"""Commands that make a data directory and keep its schema current: `init`, `migrate`."""

import asyncio

import click

from licensesvc.cli.options import data_dir_option, json_option, print_facts, settings_of


@click.command()
@data_dir_option
@json_option
def init(data_dir: str | None, *, as_json: bool) -> None:
    """Make the data directory: keys, database. What exists stays as it is."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.app import create_data, migrate_database
    from licensesvc.cli.datalock import data_lock
    from licensesvc.signing.privatefiles import private_directory

    private_directory(settings.data)
    with data_lock(settings.lock_file):
        created = create_data(settings)
        migrations = asyncio.run(migrate_database(settings))
    print_facts({"data_dir": str(settings.data), "created": created, "migrations": migrations}, as_json=as_json)


@click.command()
@data_dir_option
@json_option
def migrate(data_dir: str | None, *, as_json: bool) -> None:
    """Bring the database up to date; stop the server first."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.app import migrate_database, require_data
    from licensesvc.cli.datalock import data_lock

    require_data(settings)
    with data_lock(settings.lock_file):
        migrations = asyncio.run(migrate_database(settings))
    print_facts({"migrations": migrations}, as_json=as_json)
