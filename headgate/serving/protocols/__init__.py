"""One file a protocol. All are thin: bytes to a batch, outputs to bytes, and their own paths."""
