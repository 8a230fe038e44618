"""Keys and what is made with them: signed documents, sealed secrets, tokens. Out: storage of documents, HTTP, the clock."""
