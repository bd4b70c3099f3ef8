//! The HTTP API over the client.
