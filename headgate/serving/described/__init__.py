"""What OpenAPI says of each protocol, made from a model's signature and its reference rows."""
