"""The debugging suite: our own server passes it, and each kind of case is failed by a seller that is wrong in just that."""

import asyncio
import contextlib
import json
from collections import Counter

import pytest
from click.testing import CliRunner

from licensesvc.cli.program import program
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import MINUTE
from licensesvc.marketplace.huawei import callbacks, signature_v1, signature_v2
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.sandbox.check import MAX_UNANSWERED, Checker
from licensesvc.sandbox.check_cases import CALLS, MISDEEDS, Dialect, Misdeed, cases
from tests.sandbox.conftest import now, serve
from tests.support_edges import KEY, TABLES, listening, open_edge

BOTH = frozenset(Dialect)


class RightSeller:
    """A seller that does everything as documented, in the fewest lines; each wrong one below differs in one method."""

    def __init__(self):
        self.nonces = set()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = self.answer(scope, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        headers.append((self.header(), signature_v1.body_sign(self.signed(answer), KEY).encode()))
        await send({"type": "http.response.start", "status": self.status(answer), "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, scope, body):
        query = scope["query_string"]
        try:
            if scope["method"] == "GET":
                verified = self.verify_v1(query)
                call = self.parse(callbacks.parse_v1, verified)
            else:
                self.verify_v2(query, body)
                call = self.parse(callbacks.parse_v2, body)
        except SignatureRefused:
            return callbacks.result(CallbackCode.UNAUTHENTICATED)
        except InvalidParameter as error:
            return callbacks.result(CallbackCode.INVALID_PARAMETER, error.message)
        return self.carry_out(call)

    def verify_v1(self, query):
        return signature_v1.verify_auth_token(query_parameters(query), KEY, now(), 15 * MINUTE).parameters

    def verify_v2(self, query, body):
        verified = signature_v2.verify_url_signature(query, body, KEY, now())
        if verified.nonce in self.nonces:
            raise SignatureRefused("replay")
        self.nonces.add(verified.nonce)

    def parse(self, parse, received):
        return parse(received)

    def carry_out(self, call):
        if isinstance(call, callbacks.GetLicense):
            return callbacks.get_license_success("LS-1", "i-1")
        if getattr(call, "license", "").startswith("PLCHECK"):
            return callbacks.result(CallbackCode.UNKNOWN_LICENSE)
        return callbacks.result(CallbackCode.SUCCESS)

    def header(self):
        return b"Body-Sign"

    def signed(self, answer):
        return answer

    def status(self, _answer):
        return 200


class RefusesDebugCases(RightSeller):
    def carry_out(self, _call):
        return callbacks.result(CallbackCode.UNKNOWN_LICENSE)


class Counts(RightSeller):
    calls = 0

    def carry_out(self, call):
        self.calls += 1
        if isinstance(call, callbacks.GetLicense):
            return callbacks.get_license_success("LS-1", f"i-{self.calls}")
        return callbacks.result(CallbackCode.SUCCESS, f"success {self.calls}")


class LowerCaseOnly(RightSeller):
    def verify_v2(self, query, body):
        if any(symbol in "ABCDEF" for symbol in query_parameters(query).get("signature", "")):
            raise SignatureRefused("case")
        super().verify_v2(query, body)


class KnowsNoMore(RightSeller):
    def parse(self, parse, received):
        if b"zzUnknown" in received if isinstance(received, bytes) else "zzUnknown" in received:
            raise InvalidParameter
        return parse(received)


class BelievesEverybody(RightSeller):
    def verify_v1(self, query):
        return query_parameters(query)

    def verify_v2(self, query, body): ...


class HasNoClock(RightSeller):
    def verify_v2(self, query, body):
        signature_v2.verify_url_signature(query, body, KEY, int(query_parameters(query)["timestamp"]))


class ForgetsNonces(RightSeller):
    def verify_v2(self, query, body):
        self.nonces.clear()
        super().verify_v2(query, body)


class ReadsNoFields(RightSeller):
    def parse(self, parse, received):
        with contextlib.suppress(InvalidParameter):
            return parse(received)


class AnswersWith500(RightSeller):
    def status(self, answer):
        return 200 if b"000000" in answer else 500


class SpellsItWrong(RightSeller):
    def header(self):
        return b"body-sign"


class SignsOtherBytes(RightSeller):
    def signed(self, answer):
        return answer.strip(b"}")


class NeverSigns(RightSeller):
    def header(self):
        return b"x-other"


class AnswersPages(RightSeller):
    def answer(self, scope, body):
        return b"<html>" + super().answer(scope, body)


class KnowsEveryCode(RightSeller):
    def carry_out(self, call):
        return RightSeller.carry_out(self, call).replace(b"000003", b"000000")


WRONG = {
    RefusesDebugCases: {Misdeed.NONE, Misdeed.REPEATED, Misdeed.OTHER_CASE, Misdeed.UNKNOWN_FIELD},
    Counts: {Misdeed.REPEATED, Misdeed.UNKNOWN_CODE},
    LowerCaseOnly: {Misdeed.OTHER_CASE},
    KnowsNoMore: {Misdeed.UNKNOWN_FIELD},
    BelievesEverybody: {
        Misdeed.WRONG_SIGNATURE, Misdeed.CHANGED_AFTERWARDS, Misdeed.UNSIGNED, Misdeed.STALE, Misdeed.EARLY, Misdeed.REPLAYED,
    },
    HasNoClock: {Misdeed.STALE, Misdeed.EARLY, Misdeed.REPLAYED},
    ForgetsNonces: {Misdeed.REPLAYED},
    ReadsNoFields: {Misdeed.MISSING, Misdeed.TOO_LONG, Misdeed.NO_CHOICE, Misdeed.UNKNOWN_ACTIVITY, Misdeed.UNREADABLE},
    AnswersWith500: set(Misdeed) - {Misdeed.NONE, Misdeed.REPEATED, Misdeed.OTHER_CASE, Misdeed.UNKNOWN_FIELD},
    KnowsEveryCode: {Misdeed.UNKNOWN_CODE},
    AnswersPages: set(Misdeed),
}  # fmt: skip
"""Sellers that are wrong in one way, with the kinds of cases that they fail."""


CALLS_ENOUGH = {"refreshLicenseCode RENEWAL", "updateLicenseCodeStatus FREEZE", "getLicense"}
"""Both dialects, a field with choices, and the call that delivers."""


async def failures(seller, dialects=BOTH, *, live=True):
    """The kinds of cases that failed and count, with how many of each."""
    async with serve(seller, http="h11") as url, Checker(f"{url}/callbacks", KEY) as checker:
        suite = [case for case in cases(dialects, live=live) if case.call.name in CALLS_ENOUGH]
        results = [await checker.check(case) for case in suite]
    return Counter(case.misdeed for case, result in zip(suite, results, strict=True) if case.must and not result.passed)


async def test_a_right_seller_passes_every_case():
    assert not await failures(RightSeller())


@pytest.mark.parametrize("seller", WRONG, ids=lambda seller: seller.__name__)
async def test_a_seller_that_is_wrong_in_one_way_fails_what_shows_it_and_nothing_else(seller):
    assert set(await failures(seller())) == WRONG[seller]


@pytest.mark.parametrize("seller", [SpellsItWrong, SignsOtherBytes, NeverSigns], ids=lambda seller: seller.__name__)
async def test_a_wrong_body_sign_fails_every_case_of_license_1_0_and_none_of_2_0(seller):
    assert not await failures(seller(), frozenset({Dialect.LICENSE_2_0}))
    one = frozenset({Dialect.LICENSE_1_0})
    assert (await failures(seller(), one)).total() == sum(
        case.must and case.call.name in CALLS_ENOUGH for case in cases(one)
    )


def test_every_kind_of_case_is_failed_by_a_planted_seller():
    assert set().union(*WRONG.values()) == set(Misdeed)
    assert set(MISDEEDS) | {Misdeed.UNKNOWN_CODE} == set(Misdeed)


def test_names_are_unique_and_every_call_has_its_cases():
    names = [case.name for case in cases(BOTH, live=True)]
    assert len(names) == len(set(names))
    assert {case.call.name for case in cases(BOTH)} == {call.name for call in CALLS}


async def test_our_own_server_passes_and_nothing_live_is_touched(tmp_path):
    async with open_edge(tmp_path) as edge:
        edge.clock.now = now()
        before = await edge.written()
        async with listening(edge.app) as port, Checker(f"http://127.0.0.1:{port}{edge.shop.url}", KEY, clock=edge.clock) as checker:  # fmt: skip
            results = [await checker.check(case) for case in cases(BOTH, live=True)]
        assert [result for result in results if not result.passed] == []
        changed = [name for name, was, has in zip(TABLES, before, await edge.written(), strict=True) if was != has]
        assert changed == ["nonces"]


async def test_an_address_that_does_not_answer_fails_with_its_reason():
    async with Checker("http://127.0.0.1:9/callbacks", KEY) as checker:
        result = await checker.check(next(cases(BOTH)))
    assert not result.passed
    assert "ConnectError" in result.verdict


async def test_nobody_is_asked_181_times_when_nobody_answers():
    async with Checker("http://127.0.0.1:9/callbacks", KEY) as checker:
        results = [result async for result in checker.run(cases(BOTH, live=True))]
    assert len(results) == len(list(cases(BOTH, live=True)))
    assert not any(result.passed for result in results)
    tried = [result for result in results if not result.verdict.startswith("not tried")]
    assert len(tried) == MAX_UNANSWERED
    assert KEY not in repr(results)


async def test_a_seller_that_answers_again_in_time_is_asked_on():
    seller = RightSeller()
    asleep = [True] * (MAX_UNANSWERED - 1)
    right = seller.answer
    seller.answer = lambda scope, body: asleep.pop() and 1 / 0 if asleep else right(scope, body)
    async with serve(seller, http="h11") as url, Checker(f"{url}/callbacks", KEY) as checker:
        suite = list(cases(frozenset({Dialect.LICENSE_1_0})))
        results = [result async for result in checker.run(suite)]
    assert not [result for result in results if result.verdict.startswith("not tried")]
    assert sum(not result.passed for result in results) == MAX_UNANSWERED - 1


class Drips(RightSeller):
    """Sends a byte now and then, each of them in time."""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.02)


async def test_an_answer_that_drips_is_late(monkeypatch):
    monkeypatch.setattr("licensesvc.sandbox.check.ANSWER_SECONDS", 0.3)
    async with serve(Drips(), http="h11") as url, Checker(f"{url}/callbacks", KEY) as checker:
        result = await checker.check(next(cases(BOTH)))
    assert result.verdict == "no whole answer within 0.3 s"
    assert result.ms < 5_000


async def test_an_answer_without_end_is_not_read(monkeypatch):
    seller = RightSeller()
    seller.answer = lambda scope, body: b" " * 70_000
    async with serve(seller, http="h11") as url, Checker(f"{url}/callbacks", KEY) as checker:
        result = await checker.check(next(cases(BOTH)))
    assert "exceeds" in result.verdict


def checked(*arguments, variable="LICENSESVC_CHECK_KEY", **options):
    return CliRunner().invoke(program, ["sandbox", "check", *arguments], env={variable: KEY}, **options)


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "http://h/p?x=1", "http://user@h/p", "nothing"])
def test_an_address_that_is_no_production_url_is_refused(url):
    outcome = checked(url)
    assert outcome.exit_code == 1
    assert "URL is the production URL" in outcome.output


async def test_the_command_says_what_failed_and_what_to_do_and_never_shows_the_key(tmp_path):
    async with serve(ForgetsNonces(), http="h11") as url:
        table = await asyncio.to_thread(checked, f"{url}/callbacks")
        document = await asyncio.to_thread(checked, f"{url}/callbacks", "--json")
    assert "remember each nonce" in table.output
    assert json.loads(document.output)["failed"] == 7
    assert KEY not in table.output + document.output


async def test_the_key_comes_from_a_file_a_variable_or_the_terminal_and_a_right_seller_is_exit_code_0(tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    async with serve(RightSeller(), http="h11") as url:
        production = f"{url}/callbacks"
        ways = [
            ((production, "--json", "--dialect", "1.0", "--key-file", str(tmp_path / "key")), {"variable": "NOTHING"}),
            ((production, "--json", "--dialect", "1.0", "--access-key-env", "MY_KEY"), {"variable": "MY_KEY"}),
            ((production, "--json", "--dialect", "1.0", "--live"), {"variable": "NOTHING", "input": f"{KEY}\n"}),
        ]
        for arguments, options in ways:
            outcome = await asyncio.to_thread(checked, *arguments, **options)
            assert (outcome.exit_code, KEY in outcome.output) == (0, False), outcome.output
            assert json.loads(outcome.stdout.splitlines()[-1])["failed"] == 0


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"k" * 257, b"a\0b"])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    outcome = checked("http://127.0.0.1:9/callbacks", "--key-file", str(tmp_path / "key"))
    assert outcome.exit_code == 1
    assert "cases" not in outcome.output


async def test_values_that_a_seller_knows_go_into_the_calls():
    async with Checker("http://127.0.0.1:9/", KEY, values={"productId": "OFFI9", "license": "PL9"}) as checker:
        sent = [checker._request(case).shown for case in cases(frozenset({Dialect.LICENSE_2_0}))]
    assert any('"productId":"OFFI9"' in one for one in sent)
    assert any('"license":"PL9"' in one for one in sent)
    assert not any("PLTEST0001" in one for one in sent)
