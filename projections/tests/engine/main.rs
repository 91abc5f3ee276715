//! The engine and the tenants read model, against a real PostgreSQL and a real journal.

mod harness;
mod lanes;
mod reading;
mod rebuilding;
mod recovery;
mod retention;
mod tally;
mod tenants;
