"""Writes docs/reference from the tables of the code: `python docs/generate.py`. A test holds the files against it."""

import ast
import inspect
import sys
from pathlib import Path

import msgspec

from licensesvc import settings
from licensesvc.domain.supervision import FLOWS, FlowName, mermaid, waits_for
from licensesvc.web.problems import TABLE

REFERENCE = Path(__file__).parent / "reference"
_HEAD = "<!-- Written by docs/generate.py; change the code and run it. -->\n\n"


def supervision() -> str:
    """Every flow as a diagram and as the table it comes from."""
    parts = [_HEAD, "# Service supervision (服务监管)\n"]
    for flow in FlowName:
        parts.append(f"\n## `{flow}`\n\n```mermaid\n{mermaid(flow)}```\n")
        parts.append("\n| at | waits for | event | by | leads to |\n|---|---|---|---|---|\n")
        for node, row in FLOWS[flow].items():
            for event, cell in row.items():
                actors = ", ".join(sorted(cell.actors))
                parts.append(f"| `{node}` | {waits_for(flow, node)} | `{event}` | {actors} | `{cell.node}` |\n")
    return "".join(parts)


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


def _field_texts() -> dict[str, str]:
    body = ast.parse(inspect.getsource(settings.Settings)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = str(text.value.value).replace("|", "\\|")
    return texts


PAGES = {"supervision.md": supervision, "problems.md": problems, "settings.md": settings_reference}


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {', '.join(PAGES)}\n")


if __name__ == "__main__":
    main()
