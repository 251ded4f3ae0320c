"""What somebody else would write who adds a layer to the links of the v2ray family."""
