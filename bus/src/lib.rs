//! What others hear: events as CloudEvents, under subjects that can be subscribed to by the part.
//!
//! Only events that their context lists as public leave, and personal fields leave sealed. The relay to
//! NATS is not here yet; the form of what it will send is, because integrators build on it.

mod cloud_event;

pub use cloud_event::{CloudEvent, subject};
