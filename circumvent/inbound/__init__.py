"""The local front door: SOCKS5, SOCKS4a and HTTP clients in, streams through tunnels out."""
