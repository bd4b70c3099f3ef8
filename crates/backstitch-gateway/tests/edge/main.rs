//! The gateway's edge, on real PowerDNS, nginx and gateways: its clients, its steps and workflows, and what becomes of them when
//! something goes wrong.
#![allow(clippy::unwrap_used, reason = "a test that fails has nothing better to do")]

mod agent;
mod check;
mod crash;
mod exhaustion;
mod faults;
mod hostile_identifiers;
mod nginx;
mod orphans;
mod platform;
mod pool;
mod powerdns;
mod report;
mod requests;
mod sandboxes;
mod start;
mod sweep;
mod verify;
mod ways;
mod wrong;
