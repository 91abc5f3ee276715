//! What the store promises, one file per behaviour, against real PostgreSQL. One program, because
//! linking twenty takes longer than running them.

mod access;
mod append;
mod append_only;
mod bell;
mod bisection;
mod bounded;
mod claims;
mod conflict;
mod cqrs;
mod deadline;
mod durability;
mod elsewhere;
mod fairness;
mod fence;
mod follow;
mod idempotency;
mod look_ups;
mod ordering;
mod roles;
mod schema;
mod sealing;
mod silence;
