"""The plugins that come with circumvent; each is loaded like any other plugin."""
