"""HTTP over our own streams, by aiohttp."""
