"""The local port that browsers and programs use: SOCKS5, SOCKS4a and HTTP."""
