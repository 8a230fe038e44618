"""The marketplaces' wire protocols, both directions.

In: signatures, bodies, result codes, the outgoing HTTP client. Out: databases, use-cases, routing.
"""
