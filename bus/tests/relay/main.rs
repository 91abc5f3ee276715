//! The relay against a real journal and a real NATS server.

mod absence;
mod harness;
mod latency;
mod order;
mod privacy;
mod stream;
mod takeover;
