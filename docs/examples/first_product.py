"""Make a connection, a policy and a product by the admin API; nothing but the standard library.

usage: CALLBACK_KEY=… API_ACCESS_KEY=… API_SECRET=… python first_product.py BASE_URL ADMIN_TOKEN MARKETPLACE_PRODUCT_ID
"""

import json
import os
import sys
import urllib.error
import urllib.request


def create(base_url: str, token: str, path: str, body: dict[str, object]) -> dict[str, str]:
    """Create one record; the Idempotency-Key makes the same call again return the same record."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Idempotency-Key": f"first-{path}",
    }
    url = f"{base_url.rstrip('/')}/admin/v1/{path}"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            record: dict[str, str] = json.load(response)
    except urllib.error.HTTPError as refused:
        sys.exit(f"{path}: {refused.read().decode()}")
    return record


def main(base_url: str, token: str, product_id: str) -> None:
    """Create the three and print what to do with them."""
    connection = create(
        base_url,
        token,
        "connections",
        {
            "name": "marketplace",
            "site": "cn",  # or intl, eu
            "callback_key": os.environ["CALLBACK_KEY"],
            "api_access_key": os.environ["API_ACCESS_KEY"],
            "api_secret": os.environ["API_SECRET"],
        },
    )
    policy = create(base_url, token, "policies", {"name": "as ordered", "term": "ORDER"})
    product = create(
        base_url,
        token,
        "products",
        {
            "connection": connection["id"],
            "policy": policy["id"],
            "name": "my software",
            "marketplace_product_id": product_id,
            "delivery_kind": "LICENSE_1_0",  # we make the codes; LICENSE_2_0: the marketplace does
        },
    )
    print(f"product {product['id']}; register this production URL at the marketplace: {connection['callback_url']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
