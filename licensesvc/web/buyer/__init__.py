"""The buyer's page: a supervision case behind a signed-out link, in Chinese and English, without scripts."""
