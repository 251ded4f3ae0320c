"""Conformance suites, for our own streams, layers and plugins and for those of others.

Each is a class of pytest tests: inherit from it, provide what its docstring asks for, and run the
tests with pytest and pytest-asyncio (``asyncio_mode = "auto"``).

- ``byte_stream.ByteStreamContract``, with ``RecordContract`` and ``AnnouncedEndContract``
- ``layer.LayerContract``
- ``packet_pipe.PacketPipeContract``
- ``transport.TransportContract``
- ``channel.ChannelContract``
"""
