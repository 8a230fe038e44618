"""JSON bodies of our own APIs: strict, small, with a pointer to what is wrong.

In: the request class that reads `data: JSONBody[…]` of a handler. Out: the schemas, which say `forbid_unknown_fields=True`.

A body that is no JSON object is 400 UNREADABLE_BODY, one that does not fit its schema 422 INVALID_BODY. No value is coerced: "1" is
no number.
"""

from typing import Any, Final

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException

from licensesvc import strictjson
from licensesvc.web.problems import Refusal, body_fault

MAX_BODY: Final = 64 * 1024
"""Bytes; the `request_max_body_size` of every router with such bodies."""


class JSONRequest(Request[Any, Any, Any]):
    """Reads the body of a handler that takes `data` with `strictjson` and into exactly the declared type.

    The stock decoder answers 500 to invalid UTF-8 and to deep nesting, lets NUL and lone surrogates in, and coerces.
    """

    async def body(self) -> bytes:
        """The bytes received, at most the router's limit; none where an object is expected is UNREADABLE_BODY."""
        try:
            body = await super().body()
        except InternalServerException:  # the framework's word for a client that hung up, which is no fault of ours
            raise Refusal("UNREADABLE_BODY", "the body ended before it was complete") from None
        if not body and self.route_handler.parsed_data_field is not None:
            raise Refusal("UNREADABLE_BODY", "the body is empty, a JSON object is expected")
        return body

    async def json(self) -> Any:
        """The body as the type that the handler declares for `data`."""
        if self.content_type[0] != "application/json":
            raise Refusal("UNSUPPORTED_MEDIA_TYPE", "the body must be application/json")
        try:
            document = strictjson.decode_object(await self.body())
        except (strictjson.Unreadable, strictjson.Unacceptable) as error:
            raise Refusal("UNREADABLE_BODY", f"the body cannot be taken: {error}") from None
        declared = self.route_handler.parsed_data_field
        assert declared is not None
        try:
            return msgspec.convert(document, declared.annotation)
        except msgspec.ValidationError as error:
            fault = body_fault(error)
            raise Refusal("INVALID_BODY", "the body does not fit its schema", errors=(fault,)) from None
