"""The rules of licensing: values in, values or a `DomainError` out.

In: every rule that can be stated without a database, a clock or a network. Out: IO, `now` and randomness, which are
parameters here.
"""
