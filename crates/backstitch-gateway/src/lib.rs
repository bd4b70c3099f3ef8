//! The first workflow: a gateway from the pool, its DNS name, its vhost, its handshake.
