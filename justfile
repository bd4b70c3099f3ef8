# Each recipe is one command of `cargo xtask`; `just` is optional.

# Show what can be done
default:
    @just --list

# Start, fail, kill and stop a gateway on real Postgres, PowerDNS and nginx
demo *arguments:
    cargo xtask demo {{arguments}}

# Run the whole suite; what follows goes to `cargo test`
test *arguments:
    cargo xtask test {{arguments}}

# Check format, lints, documentation and query data
lint:
    cargo xtask lint

# Write `.sqlx` anew from the migrations and the queries
sqlx *arguments:
    cargo xtask sqlx {{arguments}}

# Check licences, advisories and sources of what we stand on
deny:
    cargo deny check

# All that a change must pass
ci:
    .ci/run
