//! Durable workflows on Postgres whose steps can be taken back.
