//! Attacks of a superuser on the journal, and what the verifier says of each.

#[path = "verify/attacks.rs"]
mod attacks;
#[path = "verify/clean.rs"]
mod clean;
#[path = "verify/evidence.rs"]
mod evidence;
#[path = "verify/export.rs"]
mod export;
#[path = "verify/harness.rs"]
mod harness;
