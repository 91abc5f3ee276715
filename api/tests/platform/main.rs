//! The platform as clients of the API meet it: people, modules, and who may use what.

mod declared;
mod grants;
mod harness;
mod identity;
mod ingest;
mod interleaved;
mod keys;
mod passwords;
mod people;
mod refreshing;
mod rules;
mod site;
mod stale;
mod strangers;
