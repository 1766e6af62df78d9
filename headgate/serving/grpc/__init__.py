"""The Open Inference Protocol over gRPC, in the worker's own event loop.

From the wire up: ``frames`` and ``headers`` (HTTP/2), ``connection``, ``sending`` and ``patience`` (one
client), ``framing`` and ``call`` (one RPC), ``status``; then ``messages``, ``contents`` and ``codec``
(what is said), ``infer``, ``about``, ``health`` and ``reflection`` (who answers), and ``server``, which a
worker has one of.

HTTP/2 is spoken here, on the worker's sockets, because gRPC's own library would take those out of
the launcher's hands: its server listens by itself, so nobody spreads connections over workers or keeps
them from one that hangs, and when it stops it cancels the calls that are on their way to it.
Headers are decoded by ``hpack``.
"""
