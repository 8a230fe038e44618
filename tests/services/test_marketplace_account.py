"""Where a connection's calls to the marketplace go, and what they need."""

import pytest

from licensesvc.domain.connection import Site
from licensesvc.services.catalog.manage_connections import CreateConnection, create_connection
from licensesvc.services.catalog.marketplace_account import CannotAsk, account_of


@pytest.fixture(params=["sqlite"])
def engine(request):
    """Nothing here depends on the engine."""
    return request.param


async def opened(rt, **changes):
    command = CreateConnection(
        **{"name": "one", "site": Site.CN, "api_access_key": "AK1", "api_secret": "secret", **changes}
    )
    return await rt.db.write(lambda tx: create_connection(tx, rt, command, by="test"))


@pytest.mark.parametrize(
    ("site", "hosts"),
    [
        (Site.CN, ("https://mkt.myhuaweicloud.com", "https://mkt.myhuaweicloud.cn")),
        (Site.INTL, ("https://mkt-intl.myhuaweicloud.com",)),
        (Site.EU, ("https://mkt.myhuaweicloud.eu",)),
    ],
)
async def test_each_site_has_its_hosts(rt, site, hosts):
    account = account_of(rt, await opened(rt, site=site))

    assert (account.hosts, account.access_key, account.secret_key) == (hosts, "AK1", "secret")
    assert "secret" not in repr(account)


async def test_a_base_url_replaces_them(rt):
    account = account_of(rt, await opened(rt, base_url="http://127.0.0.1:9"))

    assert account.hosts == ("http://127.0.0.1:9",)


@pytest.mark.parametrize("missing", ["api_access_key", "api_secret"])
async def test_without_keys_nothing_can_be_asked(rt, missing):
    stored = await opened(rt, **{missing: None})

    with pytest.raises(CannotAsk, match="set both"):
        account_of(rt, stored)
