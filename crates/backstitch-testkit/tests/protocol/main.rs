//! The protocol's interleavings, two connections at a time, and what its statements cost on large tables.
