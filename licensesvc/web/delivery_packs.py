"""`/supervision-cases/{id}/delivery-pack` for operators, and `/verify/{token}`, the page that its QR code leads to."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import segno
from litestar import Request, Response, get
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from licensesvc.domain.errors import NotFound, RateLimited
from licensesvc.domain.instants import parse_rfc3339, to_datetime
from licensesvc.services.access.limit_attempts import Limiter
from licensesvc.services.buyer.delivery_pack import Pack, PackFacts, delivery_pack, verify_pack
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.web.admin.access import OPERATOR
from licensesvc.web.admin.answers import PublicId
from licensesvc.web.asgi import client_address
from licensesvc.web.buyer.pages import CLOSED, draw, message, moment
from licensesvc.web.buyer.texts import TEXTS, language_of
from licensesvc.web.problems import Refusal, problems
from licensesvc.web.throttling import limit_headers

Rows = Sequence[tuple[str, str]]
Sections = Sequence[tuple[str, Rows]]


class PackFormat(StrEnum):
    """How a pack is written."""

    HTML = "html"
    PDF = "pdf"


@get(
    "/supervision-cases/{case_id:str}/delivery-pack",
    opt=OPERATOR,
    operation_id="getDeliveryPack",
    media_type="text/html",
    responses=problems("NOT_FOUND", "EXTRA_NOT_INSTALLED"),
)
async def get_pack(
    case_id: PublicId,
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    format: Annotated[PackFormat, QueryParameter(description="A page to print, or a PDF.")] = PackFormat.HTML,  # noqa: A002 - the parameter's name
) -> Response[Any]:
    """Return the delivery pack of an order line in Chinese and English, with a QR code by which anybody can verify it."""
    pack = await runtime.db.read(lambda tx: delivery_pack(tx, runtime, case_id))
    link = f"{settings.public_url.rstrip('/')}/verify/{pack.statement}"
    title = both("pack_title")
    sections = sections_of(pack.facts, pack.calendar, made_at=pack)
    if format is PackFormat.PDF:
        return await _pdf(pack, title, sections, link)
    picture = segno.make_qr(link, error="l").svg_inline(border=4, omitsize=True)
    return draw("pack.html", "zh-CN", title=title, sections=sections, qr=picture, verify=both("verify"), switch=None)


async def _pdf(pack: Pack, title: str, sections: Sections, link: str) -> Response[bytes]:
    try:
        from licensesvc.services.buyer.pack_pdf import pack_pdf  # noqa: PLC0415 - an extra
    except ImportError:
        raise Refusal("EXTRA_NOT_INSTALLED", "install licensesvc[pdf], or ask for format=html") from None
    made_at = to_datetime(pack.made_at)
    content = await asyncio.to_thread(pack_pdf, title, sections, link=link, link_text=both("verify"), made_at=made_at)
    headers = {
        **CLOSED,
        "content-disposition": f'attachment; filename="delivery-pack-{pack.facts.case}.pdf"',
    }
    return Response(content, media_type="application/pdf", headers=headers)


@get(
    "/verify/{statement:str}",
    include_in_schema=False,
    response_headers=[ResponseHeader(name=name, value=value) for name, value in CLOSED.items()],
)
async def verify(
    request: Request[Any, Any, Any],
    statement: FromPath[str],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
) -> Response[str]:
    """Say whether a delivery pack tells what we hold, and what that is; who tries what is no pack of ours is slowed down."""
    lang = language_of(request.query_params.get("lang"), request.headers.get("accept-language", ""))
    try:
        async with limiter.bad_tokens(f"verify {client_address(request.scope)}") as attempt:
            try:
                verified = await runtime.db.read(lambda tx: verify_pack(tx, runtime, statement))
            except NotFound:
                await attempt.failed()
                raise
    except RateLimited as refused:
        return message("slow", lang, status=429, headers=limit_headers(refused))
    except NotFound:
        return draw("verify.html", lang, status=404, verdict="verify_unknown", sections=(), switch=None)
    return draw(
        "verify.html",
        lang,
        verdict="verify_same" if verified.same else "verify_differs",
        sections=sections_of(verified.facts, verified.calendar),
        switch=f"/verify/{statement}",
    )


def both(key: str) -> str:
    """A word in both languages."""
    chinese, english = TEXTS["zh-CN"][key], TEXTS["en"][key]
    return chinese if chinese == english else f"{chinese} · {english}"


def _who(actor: str) -> str:
    """Whoever reads a pack is not the buyer whom the page calls you."""
    return both(f"actor.{actor}").replace("（您）", "").replace(" (you)", "")


def sections_of(facts: PackFacts, zone: str, *, made_at: Pack | None = None) -> Sections:
    """The facts, worded in both languages, as headings with rows."""

    def time(text: str | None) -> str:
        return "–" if text is None else f"{moment(parse_rfc3339(text), zone)} · {text}"

    order: list[tuple[str, str]] = [
        (both("order"), facts.order_id),
        (both("line"), facts.line_id),
        (both("product"), f"{facts.product} ({facts.product_id})"),
    ]
    if made_at is not None:
        order.append((both("made_at"), moment(made_at.made_at, zone)))
    license_rows: list[tuple[str, str]] = []
    activation: list[tuple[str, str]] = []
    if facts.license is not None:
        found = facts.license
        license_rows = [
            (both("license"), found.id),
            (both("code_hint"), found.code_hint),
            (both("state"), found.state),
            (both("seats"), str(found.seats)),
            (both("service_start"), time(found.service_start)),
            (both("expires"), both("perpetual") if found.perpetual else time(found.expires_at)),
        ]
        if found.activation is not None:
            activation = [
                (both("activated_at"), time(found.activation.at)),
                (both("audit"), f"{found.activation.chain} / {found.activation.seq} / {found.activation.hash}"),
            ]
    return (
        (both("order"), order),
        (both("license"), license_rows or [("", both("no_license"))]),
        (both("activation"), activation or [("", both("not_activated"))]),
        (
            both("proofs"),
            [
                (
                    f"{both('kind.' + proof.kind)} · {proof.filename}",
                    f"SHA-256 {proof.sha256} · {proof.size:,} 字节 (bytes)",
                )
                for proof in facts.proofs
            ]
            or [("", both("no_proofs"))],
        ),
        (
            both("history"),
            [
                (
                    moment(parse_rfc3339(event.at), zone),
                    f"{both('event.' + event.event)} — {_who(event.actor)} ({event.source})"
                    + (f": {event.reason}" if event.reason else ""),
                )
                for event in facts.events
            ],
        ),
    )


ROUTES: Final = (get_pack,)
