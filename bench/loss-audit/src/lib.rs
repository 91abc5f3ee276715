//! Does Daybook lose anything? Load on a real `daybook serve` with a real PostgreSQL and a real nats-server, faults of
//! every kind from a seed, and then a check that shares no code with the store: it reads the journal with plain SQL
//! and holds against it what clients were told.
//!
//! Processes are killed, stopped and cut off from each other; the machine is not: what the operating system has
//! taken for written stays written. A loss of power is the business of `fsync`, which PostgreSQL is asked to keep on.

pub mod campaign;
pub mod check;
pub mod client;
pub mod fault;
pub mod history;
pub mod journal;
pub mod link;
pub mod reader;
pub mod report;
pub mod world;
pub mod writer;
