"""Clients that stop in mid-request, do not read, or are too many: each is cut in time, and nobody else notices."""

import asyncio

import pytest

from licensesvc.cli.patience import Patience

ECHO = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n"


def test_the_servers_own_patience_is_what_the_promises_say():
    patience = Patience()

    assert patience.head_s <= 10
    assert patience.body_s + 65_536 / patience.body_rate <= 30


@pytest.mark.parametrize("part", [HEAD[:1], HEAD[:20], HEAD, b"\r\n", b"\r"])
async def test_a_stalled_head_is_cut_with_408(site, part):
    wire = await site.connect()
    wire.send(part)

    assert (await wire.end()).startswith(b"HTTP/1.1 408 ")
    assert site.app.served == 0


async def test_a_connection_that_says_nothing_is_closed_without_a_word(site):
    wire = await site.connect()

    assert await wire.end() == b""


async def test_a_head_that_drips_is_cut_all_the_same(site):
    wire = await site.connect()

    end = asyncio.create_task(wire.end())
    wire.send(HEAD)
    while not end.done():
        wire.send(b"a: b\r\n")
        await asyncio.sleep(0.02)  # the pace of the drip

    assert b"200" not in end.result()
    assert site.app.served == 0


@pytest.mark.parametrize("part", [b"", b"a", b"ab"])
async def test_a_stalled_body_is_cut_with_408_and_the_application_told(site, until, part):
    wire = await site.connect()
    wire.send(HEAD + b"\r\n" + part)

    assert (await wire.end()).startswith(b"HTTP/1.1 408 ")
    await until(lambda: site.app.gone == 1)


async def test_a_stalled_chunked_body_is_cut(site, until):
    wire = await site.connect()
    wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")

    assert (await wire.end()).startswith(b"HTTP/1.1 408 ")
    await until(lambda: site.app.gone == 1)


async def test_without_the_protocol_nobody_would_be_cut(impatient_site, until):
    head, body = await impatient_site.connect(), await impatient_site.connect()
    head.send(HEAD)
    body.send(HEAD + b"\r\na")
    await until(lambda: impatient_site.connections == 2)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await asyncio.wait(
                {asyncio.create_task(w.reader.read(1)) for w in (head, body)}, return_when=asyncio.FIRST_COMPLETED
            )


async def test_an_endless_head_is_cut_at_its_limit(site):
    wire = await site.connect()
    wire.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000)

    assert (await wire.end()).startswith(b"HTTP/1.1 431 ")
    assert site.app.served == 0


async def test_a_rest_of_a_body_that_nobody_reads_is_cut_too(site):
    wire = await site.connect()
    wire.send(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + bytes(2000))
    assert (await wire.answer())[0] == 200

    assert await wire.end() == b""


async def test_a_rest_that_nobody_reads_earns_no_time_by_coming(site):
    wire = await site.connect()
    end = asyncio.create_task(wire.end())
    wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n" + bytes(3 << 20))
    while not end.done():
        wire.send(bytes(100_000))
        await asyncio.sleep(0.02)  # the pace of the stream

    assert site.app.served == 0


async def test_the_time_of_a_head_does_not_hang_on_the_body_before_it(serve):
    async with serve(Patience(head_s=0.3, body_s=30)) as site:
        wire = await site.connect()
        wire.send(HEAD + b"\r\n")
        await asyncio.sleep(0.4)  # the timer of the connection has run out, and waits for the body now
        wire.send(b"abc")
        assert (await wire.answer())[::2] == (200, b"abc")
        wire.send(HEAD)

        assert (await wire.end()).startswith(b"HTTP/1.1 408 ")


async def test_an_answer_that_is_not_taken_is_dropped(site, until):
    wire = await site.connect()
    wire.writer.transport.pause_reading()
    wire.send(b"GET /huge HTTP/1.1\r\nhost: a\r\n\r\n")
    await until(lambda: site.connections == 1)

    await until(lambda: site.connections == 0)


async def test_requests_in_pieces_and_in_one_piece_are_served(site):
    wire = await site.connect()
    for _ in range(3):
        for piece in (ECHO[:10], ECHO[10:-2], ECHO[-2:]):
            wire.send(piece)
            await asyncio.sleep(0.01)
        assert (await wire.answer())[::2] == (200, b"abc")
    wire.send(ECHO * 3)
    for _ in range(3):
        assert (await wire.answer())[::2] == (200, b"abc")


async def test_a_stalled_request_behind_a_served_one_waits_for_the_answer(site):
    wire = await site.connect()
    wire.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n" + HEAD[:12])
    began = asyncio.get_running_loop().time()
    asyncio.get_running_loop().call_later(0.6, site.app.released.set)

    assert (await wire.answer())[0] == 200
    assert asyncio.get_running_loop().time() - began > 0.5
    assert (await wire.end()).startswith(b"HTTP/1.1 408 ")


async def test_more_connections_than_allowed_are_answered_503(site, until):
    kept = [await site.connect() for _ in range(8)]
    for wire in kept:
        wire.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
    await until(lambda: site.connections == 8)

    late = await site.connect()
    more = [await site.connect() for _ in range(8)]
    assert await more[-1].end() == b""
    late.send(ECHO)
    status, head, body = await late.answer()

    assert status == 503
    assert b"retry-after: 1\r\n" in head
    assert b"connection: close\r\n" in head
    assert b'"code":"UNAVAILABLE"' in body
    site.app.released.set()
    for wire in kept:
        assert (await wire.answer())[0] == 200
    kept[0].send(ECHO)
    assert (await kept[0].answer())[0] == 200
