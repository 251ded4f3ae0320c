"""What turns one stream into another: TLS, WebSocket."""
