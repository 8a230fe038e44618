"""CSV files: orders, transactions and confirmations that come in, and the form of all that go out."""
