"""Networks, and parts of them, that several plugins are made of. A library, not a plugin."""
