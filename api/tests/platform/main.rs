//! The platform as clients of the API meet it: people, modules, and who may use what.

mod activation;
mod declared;
mod energy;
mod grants;
mod guarded;
mod harness;
mod identity;
mod ingest;
mod interleaved;
mod introspection;
mod keys;
mod manifests;
mod passwords;
mod people;
mod profile;
mod refreshing;
mod repeats;
mod rules;
mod settings;
mod site;
mod sockets;
mod stale;
mod strangers;
mod suspended;
mod trail;
