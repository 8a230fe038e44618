"""Writes docs/reference from the tables of the code: `python docs/generate.py`. A test holds the files against it."""

import ast
import inspect
import sys
from pathlib import Path

import click
import msgspec

from licensesvc import settings
from licensesvc.cli.program import program
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.supervision import NODES, SEEN_THERE, Refund
from licensesvc.domain.supervision_deadlines import RULES
from licensesvc.domain.supervision_flows import FLOWS, IN_FORCE, REFUND_PROCEDURES, mermaid, moves, refund_mermaid
from licensesvc.domain.webhook_events import ALL, CATALOGUE, GROUPS, PING
from licensesvc.metrics import Metrics
from licensesvc.web.problems import TABLE

REFERENCE = Path(__file__).parent / "reference"
_HEAD = "<!-- Written by docs/generate.py; change the code and run it. -->\n\n"


def supervision() -> str:
    """Every flow as a diagram and as the table it comes from, then what holds in all of them."""
    parts = [_HEAD, "# Service supervision (服务监管)\n\n", _SUPERVISION]
    parts += ["| node | the marketplace's name | waits for |\n|---|---|---|\n"]
    parts += [f"| `{node}` | {name} | {whose or '–'} |\n" for node, (name, whose) in NODES.items()]
    parts += ["\n## Which flow\n\n| delivery kind | orders from | flow | 赋能云 orders |\n|---|---|---|---|\n"]
    for kind, rows in IN_FORCE.items():
        for row in rows:
            since = rfc3339(row.since) if row.since else "ever"
            parts.append(f"| `{kind}` | {since} | `{row.flow}` | {f'`{row.reviewed}`' if row.reviewed else ''} |\n")
        if not rows:
            parts.append(f"| `{kind}` | | none: never supervised | |\n")
    for name, flow in FLOWS.items():
        parts.append(f"\n## `{name}`\n\n{flow.title}.\n\n```mermaid\n{mermaid(name)}```\n")
        parts.append("\n| at | event | by | leads to |\n|---|---|---|---|\n")
        for node in flow.cells:
            for event, move in moves(name, node, Refund.NONE, frozen=False).items():
                actors = ", ".join(sorted(move.actors))
                leads = f"`{move.node}`" + (f", refund `{move.refund}`" if move.refund is not Refund.NONE else "")
                leads += ", frozen" if move.frozen else ""
                parts.append(f"| `{node}` | `{event}` | {actors} | {leads} |\n")
    parts.append("\n## Refunds\n")
    for title, procedure in REFUND_PROCEDURES.items():
        parts.append(f"\n### {title}\n\n```mermaid\n{refund_mermaid(procedure)}```\n")
        parts.append("\n| at | event | by | leads to |\n|---|---|---|---|\n")
        for refund, cells in procedure.items():
            for event, cell in cells.items():
                parts.append(f"| `{refund}` | `{event}` | {', '.join(sorted(cell.actors))} | `{cell.refund}` |\n")
    parts.append("\n## Deadlines and reminders\n\n| due | when | broken promise |\n|---|---|---|\n")
    parts += [f"| `{rule.kind}` | {rule.text} | {'yes' if rule.hard else 'no'} |\n" for rule in RULES]
    return "".join([*parts, _MANY])


_MANY = (
    "\n## Many cases at once\n\n`POST /admin/v1/supervision-cases/bulk` records or confirms one event in up to 100 cases, each in a transaction of"
    " its own: every case has a result (its node, or the code and text of what refused it), one that refuses keeps no other back, and `done` and"
    " `refused` count them. Who shows progress sends part after part, say 20 cases, and adds the counts up; a part that takes longer than 15 s ends"
    " early and names in `left` the cases to send again. `licensesvc case record-many` and `licensesvc case confirm-many` do that with a progress"
    " bar, for cases that are named or that filters find, as in `licensesvc case confirm-many completed --node ACCEPTED`.\n"
)
_SUPERVISION = (
    "A case stands at a node; an appeal freezes it there, a refund that is asked for makes it wait. Events that happen on the marketplace's"
    f" pages ({', '.join(f'`{event}`' for event in sorted(SEEN_THERE))}) are *done here* until the marketplace is known to show them"
    " (ADR 40).\n\nWhile a case is frozen only `ruled_continue`, `ruled_accepted` (to `ACCEPTED`) and `ruled_refunded` (to `REFUNDED`)"
    " by marketplace or operator are possible, and `activated`, which is a fact and no act. While a refund is `ASKED`, `AWAITING_GOODS` or"
    " `PENDING_INSPECTION`, only its own events, `appealed` and `activated` are, and what the marketplace shows of"
    " the end: `accepted`, `completed`.\n\n"
)


def problems() -> str:
    """Every code that our own APIs answer."""
    rows = (f"| `{code}` | {kind.status.value} | {kind.title} |\n" for code, kind in TABLE.items())
    head = "# Problem codes\n\nOur own APIs answer errors as RFC 9457 documents; `code` is stable.\n\n"
    return "".join([_HEAD, head, "| code | HTTP | title |\n|---|---|---|\n", *rows])


def settings_reference() -> str:
    """Every setting with its default, read from the class and the texts below its fields."""
    texts = _field_texts()
    rows = []
    for field in msgspec.structs.fields(settings.Settings):
        name = field.name
        rows.append(
            f"| `{name}` | `{settings.ENVIRONMENT_PREFIX}{name.upper()}` | `{field.default!r}` | {texts[name]} |\n"
        )
    head = (
        "# Settings\n\nIn `licensesvc.toml` in the data directory, or as environment variables, which win; options of the command"
        " line win over both. A name that is not here is refused.\n\n"
    )
    return "".join([_HEAD, head, "| setting | variable | default | meaning |\n|---|---|---|---|\n", *rows])


def metrics_reference() -> str:
    """Every metric of ours, after one of each was recorded so that it shows its labels."""
    metrics = Metrics()
    metrics.request("GET", "/healthz", 200, 0)
    metrics.licenses({"ACTIVE": 0})
    metrics.outbox(waiting=0, given_up=0, age_seconds=0)
    metrics.delisting("con_1", "failed_orders", 0, 5, 0)
    metrics.webhook("delivered")
    rows = []
    for family in metrics.families():
        if family.name.startswith("licensesvc_"):
            labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
            named = ", ".join(f"`{label}`" for label in labels)
            rows.append(f"| `{family.name}` | {family.type} | {named} | {family.documentation} |\n")
    head = (
        "# Metrics\n\nServed as `/metrics` on `metrics_port` and on the control socket, never on the main port. The usual `process_…`"
        " metrics stand beside these.\n\n"
    )
    return "".join([_HEAD, head, "| metric | type | labels | meaning |\n|---|---|---|---|\n", *rows])


def commands() -> str:
    """Every command with its arguments and options, read from the program."""
    head = (
        "# Commands\n\nExit code 0 is success, 1 a failure, 2 wrong usage or configuration, 130 Ctrl-C. What went wrong is one line on"
        " stderr; `licensesvc --debug …` shows where.\n"
    )
    return "".join([_HEAD, head, *_command(program, "licensesvc")])


def webhooks() -> str:
    """Every type of message with its data, read from the catalogue."""
    head = (
        '# Webhook events\n\nThe body of a message is `{"type": …, "timestamp": …, "data": {…}}`; `timestamp` is when it happened. `data`'
        " holds ids, numbers and words, never codes, secrets or personal data; a fact that is not known is null. How to receive them:"
        " [webhooks](../webhooks.md). Messages about the same id in the column *in order of* keep their order.\n\n"
    )
    rows = [
        f"| `{known.type}` | {known.told} | {', '.join(f'`{name}`' for name in (known.subject, *known.facts, *known.times))}"
        f" | `{known.ordered_by or known.subject}` |\n"
        for known in CATALOGUE.values()
    ]
    ping = f"| `{PING}` | an operator tests the endpoint | `endpoint` | `endpoint` |\n"
    groups = ", ".join(f"`{group}`" for group in sorted(GROUPS))
    foot = f"\nGroups that a filter may name: {groups}, and `{ALL}` for all.\n"
    return "".join([_HEAD, head, "| type | when | data | in order of |\n|---|---|---|---|\n", *rows, ping, foot])


def _command(command: click.Command, path: str) -> list[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"\n## `{path}`\n\n{inspect.cleandoc(command.help or '')}\n\n    {path} {usage}\n"]
    shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    records = [record for option in shown if (record := option.get_help_record(context))]
    if records:
        parts.append("\n| option | meaning |\n|---|---|\n")
        parts += [
            f"| `{names.replace('|', chr(92) + '|')}` | {text.replace('|', chr(92) + '|')} |\n"
            for names, text in records
        ]
    for name, below in sorted(getattr(command, "commands", {}).items()):
        parts += _command(below, f"{path} {name}")
    return parts


def _field_texts() -> dict[str, str]:
    body = ast.parse(inspect.getsource(settings.Settings)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = str(text.value.value).replace("|", "\\|")
    return texts


PAGES = {
    "supervision.md": supervision,
    "problems.md": problems,
    "settings.md": settings_reference,
    "metrics.md": metrics_reference,
    "cli.md": commands,
    "webhooks.md": webhooks,
}


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {', '.join(PAGES)}\n")


if __name__ == "__main__":
    main()
