"""nginx, as it stands in front of many sites: TLS, and what it does with each request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.certificates import Certificate
from tests.peers.process import Process, free_port

# Where every nginx of ours starts: one process, which keeps all it writes in its own folder.
HEAD = """
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
"""
CONFIG = (
    HEAD
    + """
    client_max_body_size 0;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;  # the second is not the default before 1.23.4
    {servers}
}}
"""
)
SERVER = """
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {name};
        {locations}
    }}
"""
# What an operator writes in front of a relay, as nginx's documentation of WebSockets has it.
SITE = """
        location {path} {{
            proxy_pass http://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {more}
        }}
"""
# A CDN that keeps answers back until they are complete, whatever the origin asks for.
HOLDS_BACK = "proxy_ignore_headers X-Accel-Buffering; proxy_buffers 8 64k; proxy_buffer_size 64k;"
FILES = """
        location / {{ root {root}; }}
"""


@contextmanager
def nginx(folder: Path, certificate: Certificate, servers: dict[str, str]) -> Iterator[int]:
    """A running nginx; ``servers`` are locations by name, the first the default. Its port."""
    port = free_port()
    config = CONFIG.format(
        folder=folder,
        chain=certificate.chain,
        key=certificate.key,
        servers="".join(
            SERVER.format(port=port, name=name, locations=locations)
            for name, locations in servers.items()
        ),
    )
    file = folder / "nginx.conf"
    file.write_text(config)
    with Process(["nginx", "-c", str(file), "-p", str(folder)], folder / "nginx.log") as process:
        process.await_port(port)
        yield port


# As Debian installs it, but for the port.
DEBIAN = (
    HEAD
    + """
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    gzip on;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        root {root};
    }}
}}
"""
)


@contextmanager
def nginx_site(folder: Path, certificate: Certificate, root: Path, plain: int) -> Iterator[int]:
    """A site of files at the port ``plain``, and with TLS at the one that comes back."""
    tls = free_port()
    file = folder / "site.conf"
    file.write_text(
        DEBIAN.format(
            folder=folder,
            chain=certificate.chain,
            key=certificate.key,
            root=root,
            plain=plain,
            tls=tls,
        )
    )
    with Process(["nginx", "-c", str(file), "-p", str(folder)], folder / "site.log") as process:
        process.await_port(tls)
        yield tls
