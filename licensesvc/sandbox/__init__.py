"""The sandbox marketplace: a separate process that plays the marketplace towards a seller's server, and a fake product.

In: placing orders, the calls to the seller with their checks and retries, order/query behind a signature-checking gateway.
Out: the buyer's pages, money, the marketplace's License 2.0 calls, and everything that the seller's server knows.
"""
