"""Draws the buyer's page: templates that escape everything, one style sheet of ours, headers that let nothing else happen.

In: which template with what. Out: what may be shown (services/buyer/buyer_page.py), the words (texts.py).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response, get
from litestar.enums import MediaType

from licensesvc.domain.instants import Instant, to_datetime, zone_of
from licensesvc.web.buyer.texts import LANGUAGES, TEXTS

STYLE: Final = (Path(__file__).parent / "page.css").read_bytes()
STYLE_PATH: Final = "/pages/page.css"
MARKETPLACE: Final = "https://market.console.huaweicloud.com/"
"""Where 我的云商店 opens; the menu 服务监管 is inside."""

CLOSED: Final = {
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
"""Headers of every answer behind a link: the address is the key, so nobody is told it and nothing keeps it."""
HEADERS: Final = {
    **CLOSED,
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    "cross-origin-opener-policy": "same-origin",
}
"""Headers of every page."""

_JINJA: Final = Environment(
    loader=PackageLoader("licensesvc.web.buyer"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def moment(instant: Instant, zone: str) -> str:
    """An instant as people read it, with its zone."""
    return f"{to_datetime(instant, zone_of(zone)):%Y-%m-%d %H:%M} ({zone})"


def draw(
    template: str, language: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response[str]:
    """Draw a page in a language."""
    html = _JINJA.get_template(template).render(
        t=TEXTS[language],
        lang=language,
        languages=LANGUAGES,
        moment=moment,
        style=STYLE_PATH,
        marketplace=MARKETPLACE,
        **values,
    )
    return Response(html, status_code=status, media_type=MediaType.HTML, headers={**HEADERS, **(headers or {})})


def message(
    template_key: str, language: str, *, status: int, again: str | None = None, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """Draw a page with one short text; `again` is where to look again."""
    return draw("message.html", language, status=status, headers=headers, key=template_key, again=again, switch=None)


@get(STYLE_PATH, include_in_schema=False, media_type="text/css")
async def style_sheet() -> Response[bytes]:
    """Return the style sheet."""
    headers = {"cache-control": "public, max-age=3600", "x-content-type-options": "nosniff"}
    return Response(STYLE, media_type="text/css", headers=headers)
