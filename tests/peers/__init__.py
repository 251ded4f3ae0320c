"""Real peers for the tests: third-party servers, a browser, destinations, plain clients."""
