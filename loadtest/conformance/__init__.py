"""The public suite of tests for HTTP caches (cache-tests.fyi), run against the edge or a peer."""
