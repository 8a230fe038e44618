"""Activate a license code with a signed request; nothing but the standard library.

usage: python activate.py BASE_URL ACCESS_KEY SECRET_KEY LICENSE_CODE
"""

import hashlib
import hmac
import json
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import urlsplit

PATH = "/api/mkp-openapi-public/global/v1/license/activate"


def signed_headers(host: str, body: bytes, access_key: str, secret_key: str) -> dict[str, str]:
    """Sign as the marketplace's SDKs do (SDK-HMAC-SHA256)."""
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    canonical = "\n".join(
        [
            "POST",
            PATH + "/",
            "",
            f"content-type:application/json\nhost:{host}\nx-sdk-date:{date}\n",
            "content-type;host;x-sdk-date",
            hashlib.sha256(body).hexdigest(),
        ]
    )
    to_sign = f"SDK-HMAC-SHA256\n{date}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(secret_key.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "Host": host,
        "X-Sdk-Date": date,
        "Authorization": (
            f"SDK-HMAC-SHA256 Access={access_key}, SignedHeaders=content-type;host;x-sdk-date, Signature={signature}"
        ),
    }


def main(base_url: str, access_key: str, secret_key: str, code: str) -> int:
    """Activate the code and print the answer; 0 when it is in service now."""
    body = json.dumps({"license": code}).encode()
    headers = signed_headers(urlsplit(base_url).netloc, body, access_key, secret_key)
    request = urllib.request.Request(base_url.rstrip("/") + PATH, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as refused:
        answer = json.load(refused)
    print(json.dumps(answer))
    return 0 if answer["error_code"] == "92020000" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
