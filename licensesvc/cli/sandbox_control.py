"""Commands at a running sandbox: orders and what becomes of them, codes, messages, mails, probes, outages, chaos.

In: finding the sandbox by its data directory, asking its control routes, printing. Out: what it does (`licensesvc.sandbox`).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from licensesvc.cli.errors import Failure
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_json, print_rows, settings_of

if TYPE_CHECKING:
    from licensesvc.sandbox.chaos import Wish
    from licensesvc.sandbox.mails import MailServer

LOCK_NAME: Final = "sandbox.lock"
ANSWER_SECONDS: Final = 60.0
"""A first attempt at each of an order's calls, and what chaos does beside it, take some time."""

_ADDRESS: Final = re.compile(r"[^\s@]+@[^\s@]+")
_PERIOD_TYPES: Final = click.Choice(["year", "month", "day"])
_CHANGES: Final[Mapping[str, str]] = {
    "refund-renewal": "Take the last renewal of a code back (refreshLicenseCode, UNSUBSCRIBE_RENEWAL_PERIOD).",
    "refund": "Take a purchase back and release it (releaseLicenseCode, releaseLicense), with a refund order.",
    "freeze": "Freeze a code (updateLicenseCodeStatus FREEZE).",
    "unfreeze": "End the freeze of a code (updateLicenseCodeStatus UNFREEZE).",
    "expire": "End a code's period now, of which nobody is told; in License 1.0, tell of it (expireLicense).",
    "release": "Release a purchase that was not renewed (releaseLicenseCode, releaseLicense).",
    "claim": "Let the buyer claim a code of an older flow (order --claim).",
}


@click.command()
@data_dir_option
@click.option("--product-id", required=True, help="productId at the marketplace.")
@click.option("--sku-code", help="skuCode at the marketplace.")
@click.option("--amount", type=int, default=1, show_default=True, help="How many are bought.")
@click.option("--period-type", type=_PERIOD_TYPES, help="Unit of the period; none = for good.")
@click.option("--period-number", type=int, help="How many of the unit.")
@click.option("--order-type", default="NEW", show_default=True, help="NEW, TRIAL, RENEW, …")
@click.option(
    "--dialect",
    default="LICENSE_1_0",
    show_default=True,
    help="LICENSE_1_0, LICENSE_2_0, ONLINE_LICENSE or GENERAL.",
)
@click.option("--notify/--no-notify", default=True, show_default=True, help="Send the order notification.")
@click.option("--deliver/--no-deliver", default=True, show_default=True, help="Ask for the license (getLicense).")
@click.option("--claim", is_flag=True, help="The buyer must claim the code before it can be activated (License 2.0).")
@click.option("--identification-code", help="System or hardware code of the buyer (License 1.0).")
@json_option
def order(data_dir: str | None, *, as_json: bool, **order: Any) -> None:
    """Place an order at the sandbox that runs on the data directory."""
    wanted = {name: value for name, value in order.items() if value is not None}
    answer = _ask(data_dir, "POST", "/orders", wanted, refused="the sandbox refused the order")
    made_calls = answer["deliveries"]
    if not as_json:
        answer["deliveries"] = _told(made_calls)
    print_facts(answer, as_json=as_json)
    _fail_where_refused(made_calls)


@click.command()
@data_dir_option
@click.argument("order_id")
@click.option("--product-id", help="productId after the renewal, where it changes with the period.")
@click.option("--period-type", type=_PERIOD_TYPES, help="Unit of the period (default: as bought last).")
@click.option("--period-number", type=int, help="How many of the unit.")
@json_option
def renew(data_dir: str | None, order_id: str, *, as_json: bool, **terms: Any) -> None:
    """Renew a purchase (refreshLicenseCode RENEWAL, refreshLicense)."""
    said = {name: value for name, value in terms.items() if value is not None}
    _change(data_dir, order_id, "renew", said or None, as_json=as_json)


def _change_command(kind: str, text: str) -> click.Command:
    @click.command(kind, help=text)
    @data_dir_option
    @click.argument("order_id")
    @json_option
    def command(data_dir: str | None, order_id: str, *, as_json: bool) -> None:
        _change(data_dir, order_id, kind, None, as_json=as_json)

    return command


def _change(data_dir: str | None, order_id: str, kind: str, terms: Any, *, as_json: bool) -> None:
    path = f"/orders/{quote(order_id, safe='')}/changes/{kind}"
    answer = _ask(data_dir, "POST", path, terms, refused=f"the sandbox refused to {kind} {order_id}")
    if as_json:
        print_json(answer)
    else:
        made = answer["order"] or {}
        facts = {"new_order": made.get("order_id"), "order_type": made.get("order_type")}
        print_facts({**facts, "deliveries": _told(answer["deliveries"])}, as_json=False)
    _fail_where_refused(answer["deliveries"])


@click.command()
@data_dir_option
@click.argument("callback_url")
def seller(data_dir: str | None, callback_url: str) -> None:
    """Tell the sandbox the seller's production URL."""
    _ask(data_dir, "PUT", "/seller", {"callback_url": callback_url})


@click.command()
@data_dir_option
@json_option
def codes(data_dir: str | None, *, as_json: bool) -> None:
    """List the license codes that the sandbox has made, with what was counted of their use."""
    answer = _ask(data_dir, "GET", "/codes")
    if as_json:
        print_json(answer)
        return
    uses: dict[str, list[str]] = {}
    for use in answer["usage"]:
        number = f", {use['active_num']} stated" if use["active_num"] is not None else ""
        uses.setdefault(use["license"], []).append(f"{use['day']}: {use['clients']} clients{number}")
    print_rows(
        [
            {
                "code": code["code"],
                "order": code["order_id"],
                "state": code["state"] + (", frozen" if code["frozen"] else ""),
                "expires": code["expires_at"] or "never",
                "marks": " ".join(code["marks"]),
                "use": "; ".join(uses.get(code["code"], [])),
            }
            for code in answer["codes"]
        ],
        as_json=False,
    )
    if answer["publishable"]:
        click.echo(f"may be published: {', '.join(answer['publishable'])}")


@click.command("test-codes")
@data_dir_option
@click.option("--product-id", required=True, help="Product that the codes are for.")
@click.option("--count", type=click.IntRange(1, 100), default=1, show_default=True, help="How many.")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How long they are valid.")
@json_option
def test_codes(data_dir: str | None, product_id: str, count: int, days: int, *, as_json: bool) -> None:
    """Apply for test codes (申请测试授权码)."""
    made = _ask(data_dir, "POST", "/test-codes", {"product_id": product_id, "count": count, "days": days})
    print_rows([{"code": one["code"], "expires_at": one["expires_at"]} for one in made], as_json=as_json)


@click.command()
@data_dir_option
@json_option
def messages(data_dir: str | None, *, as_json: bool) -> None:
    """List the calls to the seller and how far they have come (生产接口消息)."""
    rows = [{**one, "at": _time(one["at"])} for one in _ask(data_dir, "GET", "/messages")]
    print_rows(rows, as_json=as_json)


@click.command()
@data_dir_option
@click.argument("number", type=int)
@json_option
def restart(data_dir: str | None, number: int, *, as_json: bool) -> None:
    """Make the call of a message again, with its whole schedule."""
    made = _ask(data_dir, "POST", f"/messages/{number}/restart")
    print_facts({"deliveries": made if as_json else _told(made)}, as_json=as_json)
    _fail_where_refused(made)


@click.command()
@data_dir_option
@json_option
def mails(data_dir: str | None, *, as_json: bool) -> None:
    """Show what the marketplace has mailed about failures."""
    found = _ask(data_dir, "GET", "/mails")
    if as_json:
        print_json(found)
        return
    for mail in found:
        click.echo(f"{_time(mail['at'])}  {mail['subject']}\n{mail['text']}")


@click.command()
@data_dir_option
@json_option
def probes(data_dir: str | None, *, as_json: bool) -> None:
    """Show the replays of saved debug cases, and which products are frozen."""
    answer = _ask(data_dir, "GET", "/probes")
    if as_json:
        print_json(answer)
        return
    _print_rounds(answer["rounds"])
    for product, days in answer["failing_days"].items():
        frozen = ", trading is frozen" if product in answer["frozen"] else ""
        click.echo(f"{product}: {', '.join(answer['saved'][product])} saved; {days} failing days in a row{frozen}")


@click.command("save-cases")
@data_dir_option
@click.option("--product-id", required=True, help="Product that the cases are for.")
@click.option(
    "--dialect", type=click.Choice(["2.0", "1.0"]), default="2.0", show_default=True, help="License 2.0, 1.0."
)
@json_option
def save_cases(data_dir: str | None, product_id: str, dialect: str, *, as_json: bool) -> None:
    """Save the debug cases of a product: they are replayed every morning and afternoon of the sandbox."""
    saved = _ask(data_dir, "POST", "/probes/cases", {"product_id": product_id, "dialect": dialect})
    print_facts({"saved": saved}, as_json=as_json)


@click.command()
@data_dir_option
@json_option
def replay(data_dir: str | None, *, as_json: bool) -> None:
    """Replay all saved debug cases now; exit code 1 when one fails."""
    rounds = _ask(data_dir, "POST", "/probes/replay")
    if as_json:
        print_json(rounds)
    else:
        _print_rounds(rounds)
    if failed := sum(len(one["failed"]) for one in rounds):
        raise Failure(f"{failed} debug cases failed")


@click.command()
@data_dir_option
@click.option("--product-id", required=True, help="Product that is frozen.")
def thaw(data_dir: str | None, product_id: str) -> None:
    """Let a product be traded again that failing debug cases have frozen."""
    _ask(data_dir, "POST", "/probes/thaw", {"product_id": product_id})


@click.command()
@data_dir_option
@click.argument("kind", type=click.Choice(["none", "unavailable", "silent", "drop", "lost"]))
def outage(data_dir: str | None, kind: str) -> None:
    """Disturb the open API: 503, no answer, hung up before or after the call was carried out; none ends it."""
    _ask(data_dir, "PUT", "/outage", {"kind": kind})


@click.command()
@data_dir_option
@click.argument("wish", metavar="[SEED[:RATE]|off]", required=False)
@json_option
def chaos(data_dir: str | None, wish: str | None, *, as_json: bool) -> None:
    """Start chaos with a seed, end it, or show what it has done and what the seller took otherwise than it should."""
    if wish is not None:
        asked = None if wish == "off" else wish_of(wish)
        _ask(data_dir, "PUT", "/chaos", {"chaos": asked and {"seed": asked.seed, "rate": asked.rate}})
    answer = _ask(data_dir, "GET", "/chaos")
    if as_json:
        print_json(answer)
        return
    told = answer["chaos"]
    click.echo(f"seed {told['seed']}, rate {told['rate']}" if told else "no chaos")
    if answer["tally"]:
        print_rows([{"what": what, **done} for what, done in answer["tally"].items()], as_json=False)


def wish_of(text: str) -> "Wish":
    """Read `SEED` or `SEED:RATE`."""
    from licensesvc.sandbox.chaos import Wish

    seed, colon, rate = text.partition(":")
    try:
        return Wish(seed=int(seed), rate=float(rate)) if colon else Wish(seed=int(seed))
    except ValueError:
        raise click.UsageError("chaos is SEED or SEED:RATE: a whole number, and a part from 0 to 1") from None


def mail_server_of(smtp: str | None, mail_to: str | None) -> "MailServer | None":
    """Read `HOST:PORT` and the address."""
    if smtp is None and mail_to is None:
        return None
    from licensesvc.sandbox.mails import MailServer

    host, colon, port = (smtp or "").rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and _ADDRESS.fullmatch(mail_to or "")):
        raise click.UsageError("--smtp HOST:PORT and --mail-to ADDRESS belong together")
    return MailServer(host=host, port=int(port), to=str(mail_to))


def _ask(
    data_dir: str | None,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    refused: str = "the sandbox refused",
) -> Any:
    settings = settings_of(data_dir=data_dir)
    import httpx2

    from licensesvc.cli.datalock import holder_of

    url = holder_of(settings.data / LOCK_NAME)
    if not url.startswith("http"):
        raise Failure(f"no sandbox runs on {settings.data}: start `licensesvc sandbox --data-dir {settings.data}`")
    try:
        response = httpx2.request(method, f"{url}/sandbox{path}", json=body, timeout=ANSWER_SECONDS, trust_env=False)
    except httpx2.HTTPError as error:
        raise Failure(f"the sandbox at {url} does not answer ({error}): start it again") from None
    answer = response.json() if response.content else None
    if response.is_error:
        raise Failure(f"{refused}: {answer['detail'] if isinstance(answer, dict) else response.status_code}")
    return answer


def _told(deliveries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{made['activity']}: {made['verdict']}" for made in deliveries]


def _fail_where_refused(deliveries: Sequence[Mapping[str, Any]]) -> None:
    if refused := [made["activity"] for made in deliveries if not made["ok"]]:
        raise Failure(f"the seller refused {', '.join(refused)}: see the deliveries above")


def _print_rounds(rounds: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {
            "product": one["product_id"],
            "day": one["day"],
            "at": _time(one["at"]),
            "cases": one["cases"],
            "failed": "; ".join(f"{name}: {verdict}" for name, verdict in one["failed"].items()) or "-",
        }
        for one in rounds
    ]
    print_rows(rows, as_json=False)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


COMMANDS: Final = (
    order,
    renew,
    *(_change_command(kind, text) for kind, text in _CHANGES.items()),
    seller,
    codes,
    test_codes,
    messages,
    restart,
    mails,
    probes,
    save_cases,
    replay,
    thaw,
    outage,
    chaos,
)
"""Every command at a running sandbox."""
