"""What one connection and one response may hold, in bytes."""

READ_BUFFER = 16 * 1024  # per response; aiohttp stops reading at twice that
MAX_HEAD = 64 * 1024  # the head of a response, or anything else that brings no byte of its body
MAX_HEADERS = 64
# Bytes that wait to be written. aiohttp looks at the high-water mark every 64 KiB only; a writer
# that never looks is stopped here.
MAX_UNSENT = 128 * 1024
