//! The platform as clients of the API meet it: people, modules, and who may use what.

mod declared;
mod grants;
mod harness;
mod ingest;
mod people;
mod rules;
mod stale;
mod strangers;
