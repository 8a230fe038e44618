"""`audit`: re-reads everything and reports what contradicts itself (reliability.md)."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from licensesvc.domain.audit import AuditBroken, ChainHead, verify_chain
from licensesvc.domain.errors import DomainError
from licensesvc.domain.supervision import BEFORE_ACTIVATION
from licensesvc.domain.supervision_case import CaseState, opened, step
from licensesvc.services.licenses.issue_license import code_index, open_codes
from licensesvc.services.orders.notify_order import OUTBOX_KIND
from licensesvc.services.runtime import Runtime
from licensesvc.signing.vault import CannotOpen
from licensesvc.storage import activations, audit, documents, licenses, outbox, supervision
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import CaseEvent, StoredCase

PAGE: Final = 500
"""Rows read at once."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One contradiction: which check found it, on what."""

    check: str
    subject: str
    problem: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was re-read, by kind, and what was wrong."""

    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Nothing was wrong."""
        return not self.findings


async def audit_database(rt: Runtime, progress: Callable[[str, int], None] = lambda _what, _done: None) -> AuditReport:
    """Re-read seats, documents, codes, supervision, audit chains and the outbox on one snapshot; `progress` hears (kind, rows so far)."""
    return await rt.db.read(lambda tx: _Auditor(tx, rt, progress).report())


class _Auditor:
    def __init__(self, tx: Tx, rt: Runtime, progress: Callable[[str, int], None]) -> None:
        self._tx = tx
        self._rt = rt
        self._progress = progress
        self._counts: dict[str, int] = {}
        self._findings: list[Finding] = []

    async def report(self) -> AuditReport:
        checks = {
            "seats": self._seats,
            "codes": self._licenses,
            "documents": self._documents,
            "cases": self._cases,
            "audit chain": self._chains,
            "outbox": self._outbox,
        }
        for check, run in checks.items():
            try:
                await run()
            except ValueError as error:  # a value that no code of ours has written
                self._found(check, "database", f"a row cannot be read: {error}")
        return AuditReport(counts=self._counts, findings=tuple(self._findings))

    def _count(self, kind: str, rows: int) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + rows
        self._progress(kind, self._counts[kind])

    def _found(self, check: str, subject: str, problem: str) -> None:
        self._findings.append(Finding(check=check, subject=subject, problem=problem))

    async def _seats(self) -> None:
        for public_id in await activations.miscounted(self._tx):
            self._found("seats", public_id, "the counter differs from the seats held, or exceeds those sold")

    async def _licenses(self) -> None:
        """Every code opens with the vault and is found by its index."""
        after = 0
        while page := await licenses.page(self._tx, after=after, limit=PAGE):
            after = page[-1].view.id
            self._count("licenses", len(page))
            for loaded in page:
                await self._code(loaded)

    async def _code(self, loaded: LoadedLicense) -> None:
        subject = loaded.view.public_id
        try:
            codes = await open_codes(self._tx, self._rt, loaded)
        except CannotOpen:
            self._found("codes", subject, "its code does not open with the vault")
            return
        if not codes:
            self._found("codes", subject, "it has no code")
        if any(index != code_index(self._rt, code) for index, code in codes.items()):
            self._found("codes", subject, "its code does not find it")

    async def _documents(self) -> None:
        after = (0, 0)
        while page := await documents.page(self._tx, after=after, limit=PAGE):
            after = (page[-1].license_id, page[-1].revision)
            self._count("documents", len(page))
            for document in page:
                # A document without signature is an intent: asking for it again signs it.
                if document.signature is not None and not self._rt.signer.made(
                    document.signing_input, document.signature
                ):
                    self._found(
                        "documents", f"license {document.license_id}.{document.revision}", "the signature does not hold"
                    )

    async def _cases(self) -> None:
        """The events of a case rebuild its state exactly, and an active license has passed ACTIVATING."""
        after = 0
        while page := await supervision.page(self._tx, after=after, limit=PAGE):
            after = page[-1].id
            self._count("cases", len(page))
            events = await supervision.events_of_cases(self._tx, [case.id for case in page])
            for case in page:
                await self._case(case, events.get(case.id, []))

    async def _case(self, case: StoredCase, events: Sequence[CaseEvent]) -> None:
        state: CaseState | None = None
        try:
            for event in events:
                before = state or opened(event.happening.at)
                state = step(case.flow, before, event.happening)
                if (event.from_node, event.to_node) != (before.node, state.node):
                    self._found("cases", case.public_id, "an event is missing or was changed")
                    return
        except DomainError as error:
            self._found("cases", case.public_id, f"its events do not follow the flow: {error}")
            return
        if state != case.state:
            differs = [
                name for name in CaseState.__struct_fields__ if getattr(state, name, None) != getattr(case.state, name)
            ]
            self._found("cases", case.public_id, f"its events lead to another state: {', '.join(differs)}")
        loaded = await licenses.by_line(self._tx, case.line_ref)
        if loaded is not None and loaded.view.activated_at is not None and case.node in BEFORE_ACTIVATION:
            self._found("cases", case.public_id, f"its license is active, it stands at {case.node}")

    async def _outbox(self) -> None:
        """An order that was acknowledged to the marketplace, and then nobody ever learned what it was."""
        for order_id in await outbox.orders_never_asked_for(self._tx, OUTBOX_KIND, limit=PAGE):
            self._found("outbox", order_id, "its order/query was given up: restart the notification at the marketplace")

    async def _chains(self) -> None:
        for chain in await audit.chains(self._tx):
            head: ChainHead | None = None
            try:
                while page := await audit.page(self._tx, chain, after=head.seq if head else 0, limit=PAGE):
                    head = verify_chain(page, after=head)
                    self._count("audit events", len(page))
            except AuditBroken as error:
                self._found("audit chain", chain, str(error))
