"""OpenSSH, as people use it against censorship: one connection that offers a SOCKS port."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.process import Process, free_port, program

HOST = "127.0.0.1"
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
"""


@contextmanager
def sshd(folder: Path) -> Iterator[int]:
    """A server that lets ``ssh_tunnel`` in; its port."""
    for name in ("host", "user"):
        made = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(made, check=True)
    port = free_port()
    config = folder / "sshd.conf"
    config.write_text(CONFIG.format(port=port, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)  # it insists on one to lock itself into
    command = [program("sshd"), "-D", "-e", "-f", str(config)]
    with Process(command, folder / "sshd.log") as process:
        process.await_port(port)
        yield port


@contextmanager
def ssh_tunnel(folder: Path, server: int) -> Iterator[int]:
    """``ssh -D`` to the server behind ``server``; its SOCKS port."""
    port = free_port()
    trust = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    login = ["-i", str(folder / "user"), "-p", str(server), f"root@{HOST}"]
    command = ["ssh", "-N", "-D", f"{HOST}:{port}", *trust, *login]
    with Process(command, folder / "ssh.log") as process:
        process.await_port(port)
        yield port
