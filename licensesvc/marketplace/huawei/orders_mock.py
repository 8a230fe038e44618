"""The nine mock orders that production serves for integration tests (spec §1.6).

In: the observed one verbatim, the others in its structure with type, charging mode and period fitting their names [I].
Out: serving them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from licensesvc.domain.order import OrderType
from licensesvc.marketplace.huawei.orders import BuyerInfo, ExtendParam, OrderInfo, OrderLine, ProductInfo


class _Mock(NamedTuple):
    order_id: str
    order_type: OrderType
    charging_mode: str
    sold_as: str
    period_type: str | None = None
    period_number: int | None = None
    expire_time: str | None = None


_MOCKS = (
    _Mock("MOCKPERIODYEARNEW", OrderType.NEW, "PERIOD", "包周期", "year", 1, "20251121235959"),
    _Mock("MOCKONETIMENEW", OrderType.NEW, "ONE_TIME", "一次性"),
    _Mock("MOCKONDEMAND", OrderType.NEW, "ON_DEMAND", "按需"),
    _Mock("MOCKONDEMANDPKG", OrderType.NEW, "ON_DEMAND_PKG", "按需套餐包", "month", 1, "20241221235959"),
    _Mock("MOCKPERIODDAYTRIAL", OrderType.TRIAL, "PERIOD", "包周期", "day", 7, "20241128235959"),
    _Mock("MOCKMONTYTRIALTOFORMAL", OrderType.TRIAL_TO_FORMAL, "PERIOD", "包周期", "month", 1, "20241221235959"),
    _Mock("MOCKMONTYUNSUBSCRIBE", OrderType.UNSUBSCRIBE, "PERIOD", "包周期", "month", 1, "20241221235959"),
    _Mock("MOCKMONTYRENEW", OrderType.RENEW, "PERIOD", "包周期", "month", 1, "20241221235959"),
    _Mock("MOCKMONTYCHANGE", OrderType.CHANGE, "PERIOD", "包周期", "month", 1, "20241221235959"),
)

_BUYER = BuyerInfo(
    mobile_phone="18688888888",
    customer_id="459bbbec25d24749b2eb83be37b602a8",
    customer_name="mock_user_01",
    customer_real_name="测试用户1",
    customer_type=0,
)


def _order(mock: _Mock) -> OrderInfo:
    product = ProductInfo(
        product_id="OFFI846204237451911168",
        sku_code="0a4d1578-5295-46a7-92d4-7c803dccc51d",
        linear_value=50,
        product_name=f"MOCK测试商品,测试规格,基础版,{mock.sold_as}",
    )
    line = OrderLine(
        order_line_id=f"{mock.order_id}-000001",
        charging_mode=mock.charging_mode,
        period_type=mock.period_type,
        period_number=mock.period_number,
        expire_time=mock.expire_time,
        product_info=(product,),
        extend_params=(
            ExtendParam(name="emailDomainName", value="test.xxxx.com"),
            ExtendParam(name="ip", value="127.0.0.1"),
        ),
        currency="100",
        currency_after_discount="100",
    )
    return OrderInfo(
        order_id=mock.order_id,
        order_type=mock.order_type,
        create_time="20241121090846",
        order_line=(line,),
        buyer_info=_BUYER,
        extend_params=(),
    )


MOCK_ORDERS: Mapping[str, OrderInfo] = MappingProxyType({mock.order_id: _order(mock) for mock in _MOCKS})
