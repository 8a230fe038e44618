"""Commands about what is kept of people and of the past: `buyer list`, `buyer erase`, `prune`."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_rows, settings_of

if TYPE_CHECKING:
    from licensesvc.settings import Settings


@click.group()
def buyer() -> None:
    """Buyers and their personal data."""


@buyer.command("list")
@data_dir_option
@click.option("--customer-id", metavar="ID", help="The marketplace's id of the customer.")
@json_option
def list_buyers(data_dir: str | None, customer_id: str | None, *, as_json: bool) -> None:
    """List buyers by our id."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.cli.admin_client import open_admin

    async def find() -> list[dict[str, Any]]:
        async with open_admin(settings) as client:
            return await client.all("/buyers", **({"customer_id": customer_id} if customer_id else {}))

    rows = [
        {
            "id": found["id"],
            "customer_id": found["person"]["customer_id"] if found["person"] else None,
            "name": found["person"]["name"] if found["person"] else None,
            "erased_at": found["erased_at"],
        }
        for found in asyncio.run(find())
    ]
    print_rows(rows, as_json=as_json)


@buyer.command()
@click.argument("buyer_id", metavar="ID")
@data_dir_option
@click.option("--reason", required=True, help="Why; kept in the audit chain, so name no person.")
@json_option
def erase(buyer_id: str, data_dir: str | None, reason: str, *, as_json: bool) -> None:
    """Erase what is known of a buyer (buy_…); licenses and audit stay. Proofs and older backups are yours to look through."""
    answer = asyncio.run(_post(settings_of(data_dir=data_dir), f"/buyers/{buyer_id}/erase", {"reason": reason}))
    print_facts({"id": answer["id"], "erased_at": answer["erased_at"]}, as_json=as_json)


@click.command()
@data_dir_option
@click.option("--dry-run", is_flag=True, help="Only count.")
@json_option
def prune(data_dir: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Delete what is past its retention (settings keep_…_days); the audit chain stays whole."""
    settings = settings_of(data_dir=data_dir)

    async def work() -> Counter[str]:
        rows: Counter[str] = Counter()
        more = True
        while more:
            answer = await _post(settings, "/prune", {"dry_run": dry_run})
            rows.update(answer["rows"])
            more = answer["more"]
        return rows

    print_facts(asyncio.run(work()), as_json=as_json)


async def _post(settings: "Settings", path: str, body: dict[str, Any]) -> dict[str, Any]:
    from licensesvc.cli.admin_client import open_admin

    async with open_admin(settings) as client:
        return await client.post(path, body)
