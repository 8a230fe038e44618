"""What every signature scheme shares: the refusal and the decoding of a query string.

In: bytes of the request line. Out: the schemes themselves (`aksk`, `signature_v1`, `signature_v2`).
"""

from urllib.parse import parse_qsl

MAX_QUERY_BYTES = 8192
MAX_QUERY_PARAMETERS = 64


class SignatureRefused(Exception):
    """The request's signature is missing, malformed, stale or wrong; `reason` may be shown to the caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def query_parameters(query_string: bytes) -> dict[str, str]:
    """Decode a query string exactly once, as the marketplace's Java encoder wrote it: `+` and `%20` are both blanks.

    Blank values are kept, because they were signed. Raises `SignatureRefused` for invalid UTF-8, repeated names and
    anything above the bounds: nothing of that can have been signed unambiguously.
    """
    if len(query_string) > MAX_QUERY_BYTES:
        raise SignatureRefused("query string too long")
    try:
        pairs = parse_qsl(
            query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_PARAMETERS
        )
    except ValueError:
        raise SignatureRefused("query string malformed") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise SignatureRefused("repeated query parameter")
    return parameters
