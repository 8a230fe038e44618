"""Signing keys that leaked: given up everywhere, and what they signed is signed anew; rotation that no verifier notices."""

import asyncio
import json
import re
import shutil

import httpx2
import pytest

from licensesvc.app import create_app, now, open_runtime
from licensesvc.cli.program import run
from licensesvc.services.licenses.sign_license import first_document, signed_license
from licensesvc.services.upkeep import follow_keys
from licensesvc.services.upkeep.follow_keys import KeyFollower
from licensesvc.services.upkeep.rotate_keys import rotate_keys
from licensesvc.settings import Settings
from licensesvc.signing import envelope, keyset
from licensesvc.signing.envelope import InvalidToken, verify
from licensesvc.signing.keyset import KeyStatus, UnknownKid, public_key_from_jwk
from licensesvc.signing.signer import KeysetSigner
from tests.support_process import running, serving
from tests.support_stock import make_stock

A, N, R, C = KeyStatus.ACTIVE, KeyStatus.NEXT, KeyStatus.RETIRED, KeyStatus.COMPROMISED


@pytest.fixture
def path(tmp_path):
    keyset.create(tmp_path / "keys.json", 1)
    keyset.rotate(tmp_path / "keys.json", 2)
    return tmp_path / "keys.json"


@pytest.mark.parametrize("status", [A, N, R])
def test_a_compromised_key_is_neither_published_nor_believed_and_another_signs(path, status):
    given_up = next(key for key in keyset.load(path).keys if key.status is status)
    following = next(key for key in keyset.load(path).keys if key.status is N)

    keys = keyset.compromise(path, given_up.kid, 3)

    assert keys.find(given_up.kid).status is C
    assert given_up.kid not in keys.verification_keys()
    assert given_up.kid.encode() not in keys.jwks()
    assert sorted(key.status for key in keys.keys).count(N) == 1
    assert keys.active.kid == following.kid if status is A else keys.active.kid != given_up.kid
    assert keyset.load(path).jwks() == keys.jwks()
    assert keyset.compromise(path, given_up.kid, 4).jwks() == keys.jwks()  # twice changes nothing
    assert not KeysetSigner(keys).believes(given_up.kid)


@pytest.mark.parametrize("kid", ["", "x" * 43, "../../etc/passwd"])
def test_an_unknown_kid_changes_nothing(path, kid):
    before = path.read_bytes()
    with pytest.raises(UnknownKid):
        keyset.compromise(path, kid, 3)
    assert path.read_bytes() == before


async def test_what_a_compromised_key_signed_is_signed_anew_once(tmp_path):
    stock = await make_stock(tmp_path / "data", licenses=1)
    license_id = next(iter(stock.licenses.values()))
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        first = await first_document(rt, license_id)
        rt.signer.keyset = keyset.compromise(settings.signing_keys_file, first.kid, now())

        again = await signed_license(rt, license_id)
        repeated = await first_document(rt, license_id)
        rt.signer.keyset = keyset.rotate(settings.signing_keys_file, now())
        rotated = await first_document(rt, license_id)

    assert (again.revision, again.kid != first.kid) == (2, True)
    assert repeated == rotated == again  # the answer that must not change has changed once
    keys = rt.signer.keyset.verification_keys()
    assert verify(again.document, typ=envelope.LICENSE_TYP, keys=keys, now=now(), issuer=rt.issuer)
    with pytest.raises(InvalidToken, match="kid"):
        verify(first.document, typ=envelope.LICENSE_TYP, keys=keys, now=now(), issuer=rt.issuer)


async def test_an_intent_of_a_compromised_key_is_never_signed(tmp_path):
    stock = await make_stock(tmp_path / "data", licenses=1)
    license_id = next(iter(stock.licenses.values()))
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        old = rt.signer.kid
        rt.signer.keyset = keyset.compromise(settings.signing_keys_file, old, now())
        signed = await first_document(rt, license_id)

    assert (signed.revision, signed.kid == old) == (2, False)


async def test_another_process_follows_the_file(tmp_path):
    await make_stock(tmp_path / "data", licenses=1)
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        follower = KeyFollower(rt, settings.signing_keys_file, settings.vault_keys_file)
        follower.look()
        leaked = rt.signer.kid
        keyset.compromise(settings.signing_keys_file, leaked, now())
        assert rt.signer.believes(leaked)  # control: without looking it is not noticed

        follower.look()
        assert not rt.signer.believes(leaked)
        assert follow_keys.EVERY_S < 60

        kept = rt.signer.keyset
        settings.signing_keys_file.write_bytes(b"{}")
        follower.look()
        assert rt.signer.keyset is kept


async def test_the_follower_runs_with_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr(follow_keys, "EVERY_S", 0.001)
    await make_stock(tmp_path / "data", licenses=1)
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        leaked = rt.signer.kid
        async with create_app(rt, settings).lifespan():
            keyset.compromise(settings.signing_keys_file, leaked, now())
            async with asyncio.timeout(10):
                while rt.signer.believes(leaked):  # noqa: ASYNC110 - yields, waits for no clock
                    await asyncio.sleep(0)


async def test_the_command_reaches_a_running_server_at_once(tmp_path, capsys):
    await make_stock(tmp_path / "data", licenses=1)
    command = ["keys", "compromise", "--data-dir", str(tmp_path / "data"), "--reason", "stolen", "--json"]
    with running(*serving(tmp_path / "data"), log=tmp_path / "log") as server:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            leaked = (await http.get("/.well-known/jwks.json")).json()["keys"][0]["kid"]
            assert await asyncio.to_thread(run, [*command, leaked]) == 0
            published = (await http.get("/.well-known/jwks.json")).json()["keys"]
    assert leaked not in [key["kid"] for key in published]
    assert json.loads(capsys.readouterr().out)[0]["status"] in set(KeyStatus)
    assert await asyncio.to_thread(run, [*command, "x" * 43]) == 1
    assert "no key here has this kid" in capsys.readouterr().err


class Verifier:
    """A client that keeps the published keys and fetches them again only when it meets an unknown kid, like any library."""

    def __init__(self, http: httpx2.AsyncClient, issuer: str) -> None:
        self._http = http
        self._issuer = issuer
        self._keys = {}
        self.verified = 0
        self.failed = []
        self.kids = set()

    async def fetch(self) -> None:
        published = (await self._http.get("/.well-known/jwks.json")).json()["keys"]
        self._keys = {jwk["kid"]: public_key_from_jwk(jwk) for jwk in published}

    async def check(self, document: str, *, fetches: bool = True) -> None:
        try:
            verify(document, typ=envelope.LICENSE_TYP, keys=self._keys, now=now(), issuer=self._issuer, leeway_s=5)
        except InvalidToken as refused:
            if fetches:
                await self.fetch()
                return await self.check(document, fetches=False)
            self.failed.append(str(refused))
        else:
            self.verified += 1


ROUNDS, LICENSES = 4, 50
CHECKS = 20_000


async def verified_through_rotations(tmp_path, *, break_it: bool = False) -> Verifier:
    """Check documents while keys go from published to signing to retired; every document ever seen is checked again."""
    stock = await make_stock(tmp_path / "data", licenses=LICENSES)
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        app = create_app(rt, settings)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://l.example") as http:
            verifier = Verifier(http, rt.issuer)
            await verifier.fetch()
            seen: list[str] = []
            turned = asyncio.Event()

            async def ask() -> None:
                codes = list(stock.licenses)
                while not turned.is_set() or verifier.verified + len(verifier.failed) < CHECKS:
                    for code in codes:
                        answer = await http.post("/v1/licenses/document", json={"code": code})
                        if break_it and answer.status_code != 200:
                            continue  # it was to be signed by a key that has vanished
                        seen.append(answer.json()["document"])
                        for document in [seen[-1], *seen[:: max(1, len(seen) // 50)]]:
                            await verifier.check(document)

            async def turn() -> None:
                for number in range(ROUNDS):
                    reached = CHECKS * (number + 1) // (ROUNDS + 1)
                    while verifier.verified + len(verifier.failed) < reached:  # noqa: ASYNC110 - as above
                        await asyncio.sleep(0)
                    await rt.db.write(lambda tx: rotate_keys(tx, rt, settings.signing_keys_file, by="test"))
                    # New facts make new documents under the new key.
                    await rt.db.write(lambda tx: tx.run("UPDATE license_states SET seats = seats + 1"))
                    if break_it:
                        shutil.rmtree(tmp_path / "other", ignore_errors=True)
                        (tmp_path / "other").mkdir()
                        rt.signer.keyset = keyset.create(tmp_path / "other" / "keys.json", now())
                turned.set()

            await asyncio.gather(ask(), turn())
            verifier.kids = {envelope.kid_of(document.rpartition(".")[0].encode()) for document in seen}
            return verifier


async def test_no_verification_fails_through_four_rotations_under_load(tmp_path):
    verifier = await verified_through_rotations(tmp_path)

    assert verifier.failed == []
    assert verifier.verified >= CHECKS
    assert len(verifier.kids) == ROUNDS + 1


async def test_control_a_key_that_vanishes_without_overlap_fails_verifications(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.CHECKS", 1000)
    verifier = await verified_through_rotations(tmp_path, break_it=True)

    assert verifier.failed
    assert all(re.search("kid", reason) for reason in verifier.failed)
