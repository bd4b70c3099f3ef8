//! Postgres in a box: find binaries, start, reuse, stop.
