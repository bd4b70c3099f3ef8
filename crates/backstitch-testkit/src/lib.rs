//! Effect ledger, fault injection and the helpers that wait for facts.
