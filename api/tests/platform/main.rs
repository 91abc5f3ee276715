//! The platform as clients of the API meet it: people, modules, and who may use what.

mod activation;
mod declared;
mod grants;
mod harness;
mod identity;
mod ingest;
mod keys;
mod manifests;
mod passwords;
mod people;
mod profile;
mod refreshing;
mod rules;
mod settings;
mod site;
mod stale;
mod strangers;
