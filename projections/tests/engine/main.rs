//! The engine and the tenants read model, against a real PostgreSQL and a real journal.

mod audit;
mod beside;
mod crashes;
mod energy;
mod filters;
mod harness;
mod lanes;
mod parking;
mod people;
mod platform;
mod platform_pages;
mod reading;
mod rebuilding;
mod recovery;
mod retention;
mod tally;
mod tenants;
