"""HTTP: the edges of the server, one package each, on the framework. Rules of licensing and SQL live below."""
