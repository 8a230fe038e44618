"""What a refusal for too many attempts says in headers: when to come back, and which limit it was.

`RateLimit` and `RateLimit-Policy` as draft-ietf-httpapi-ratelimit-headers has them: structured fields, q and r in attempts, w and t in seconds.
"""

from licensesvc.domain.errors import RateLimited


def limit_headers(refused: RateLimited) -> dict[str, str]:
    """Headers of a 429."""
    return {
        "retry-after": str(refused.wait_s),
        "ratelimit": f'"{refused.limit}";r=0;t={refused.wait_s}',
        "ratelimit-policy": f'"{refused.limit}";q={refused.count};w={refused.window_s}',
    }
