"""The marketplace as the sender of License 2.0 and License 1.0 calls, straight into the real application."""

import json
from urllib.parse import urlencode

from licensesvc.domain.instants import SECOND, to_datetime
from licensesvc.marketplace.huawei import signature_v1, signature_v2
from tests.support_edges import KEY, ask

CODE = "PLTEST0001"
SUCCESS = b'{"resultCode":"000000","resultMsg":"success."}'
REFRESH = {
    "activity": "refreshLicenseCode",
    "expireTime": "20281118110640",
    "license": CODE,
    "orderId": "CS2701010000AAAAA",
    "orderLineId": "CS2701010000AAAAA-000001",
    "productId": "OFFI200",
    "scene": "RENEWAL",
    "testFlag": "0",
}
STATUS = {"activity": "updateLicenseCodeStatus", "license": CODE, "status": "UNFREEZE"}
RELEASE = {"activity": "releaseLicenseCode", "license": CODE, "orderId": "CS9", "orderLineId": "CS9-000001"}
V2 = {call["activity"]: call for call in (REFRESH, STATUS, RELEASE)}
V1 = {
    "refreshLicense": {"orderId": "CS2", "instanceId": "biz-1", "expireTime": "20281118110640"},
    "expireLicense": {"orderId": "CS1", "instanceId": "biz-1"},
    "releaseLicense": {"orderId": "CS1", "instanceId": "biz-1"},
}


class Sender:
    """The marketplace: signs calls to one shop, each with a nonce of its own."""

    def __init__(self, edge, shop):
        self.edge, self.shop, self.nonces = edge, shop, 0

    def target(self, body, *, nonce=None, at=None, key=KEY, upper=False, seconds=False):
        self.nonces += 1
        nonce = nonce or f"nonce{self.nonces}"
        at = self.edge.clock.now if at is None else at
        at = at // SECOND if seconds else at
        signature = signature_v2.sign_url(body, key, nonce, at)
        return f"{self.shop.url}?signature={signature.upper() if upper else signature}&timestamp={at}&nonce={nonce}"

    async def post(self, fields, *, target=None, **options):
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        headers = [("Content-Type", "application/json")]
        return await ask(self.edge.app, "POST", target or self.target(body, **options), headers=headers, body=body)

    def v1_target(self, activity, *, at=None, key=KEY, **changes):
        at = self.edge.clock.now if at is None else at
        stamp = to_datetime(at).strftime("%Y%m%d%H%M%S") + f"{at % 1000:03}"
        told = {"activity": activity, **V1[activity], "timeStamp": stamp, **changes}
        given = {name: value for name, value in told.items() if value is not None}
        token = signature_v1.auth_token(given.items(), key)
        return f"{self.shop.url}?{urlencode({**given, 'authToken': token})}"

    async def get(self, activity, *, target=None, **options):
        return await ask(self.edge.app, "GET", target or self.v1_target(activity, **options))


async def state(edge):
    return dict(await edge.rt.db.read(lambda tx: tx.one("SELECT * FROM license_states ORDER BY license_id DESC")))
