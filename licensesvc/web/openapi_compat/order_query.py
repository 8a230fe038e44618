"""Questions about orders (spec §1.6), for credentials of the seller."""

from licensesvc.domain.errors import NotASeller
from licensesvc.marketplace.huawei.orders import OrderQuestion, order_answer, parse_order_query
from licensesvc.services.access.authenticate_software import Caller
from licensesvc.services.orders.tell_order import tell_order
from licensesvc.services.runtime import Runtime
from licensesvc.storage.credentials import Scope
from licensesvc.web.openapi_compat.endpoint import Answered, Call
from licensesvc.web.openapi_compat.words import ORDER_WORDS


def order_calls(rt: Runtime) -> list[Call]:
    """The question about one order."""

    async def order_query(caller: Caller, question: OrderQuestion) -> Answered:
        if caller.scope is not Scope.SELLER:
            raise NotASeller
        info = await rt.db.read(lambda tx: tell_order(tx, caller.connection, question))
        return Answered(order_answer(info, caller.connection.error_table))

    return [Call(path="/v1/order/query", read=parse_order_query, decide=order_query, words=ORDER_WORDS, method="GET")]
