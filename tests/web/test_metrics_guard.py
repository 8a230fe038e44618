"""What `/metrics` says of the delisting guard."""

import math
from pathlib import Path

from licensesvc.domain.instants import MINUTE
from tests.support_guard import reported, said
from tests.support_observed import METRICS_PORT, open_served
from tests.web.test_metrics_page import get


async def test_every_gauge_of_a_connection_is_a_sample(tmp_path: Path):
    async with open_served(tmp_path) as served:
        shop, clock = served.edge.shop, served.edge.clock
        await said(shop, "expireLicense", at=clock.now)
        await reported(shop, "2026-11", 3)
        clock.now += 2 * MINUTE
        status, page = await get(served, "/metrics", port=METRICS_PORT)
        labels = {"connection": shop.connection.public_id}

        assert status == 200
        for gauge, value, level, limit in (
            ("failed_orders", 3, 1, 5),
            ("retry_window", 100, 2, 100),
            ("open_api_refusals", 0, 0, 5),
            ("software_locks", 0, 0, None),
        ):
            named = {**labels, "gauge": gauge}
            assert served.value("licensesvc_delisting_value", **named) == value
            assert served.value("licensesvc_delisting_level", **named) == level
            assert served.value("licensesvc_delisting_limit", **named) == limit
        silence = served.value("licensesvc_delisting_value", **labels, gauge="probe_silence")
        assert silence is not None
        assert math.isnan(silence)
        assert served.value("licensesvc_delisting_blind_seconds") == 2 * 60
        assert page.count("licensesvc_delisting_level{") == 6
