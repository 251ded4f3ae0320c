"""Runs the client with small send buffers, so that hardly a write is taken whole."""

import runpy

from circumvent.net import sockets

sockets.SEND_BUFFER = 8 * 1024  # others take it as their default once they are imported

if __name__ == "__main__":
    runpy.run_module("circumvent", run_name="__main__", alter_sys=True)
