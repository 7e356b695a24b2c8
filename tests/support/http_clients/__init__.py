"""Programs that ask a site in a loop over kept connections, each through one well-known HTTP client library."""
