//! What others hear: events as CloudEvents, under subjects that can be subscribed to by the part.
//!
//! Only events that their context lists as public leave, and personal values never do. Refuses to be on
//! an internal path: nothing in Daybook waits for a message server, and without one everything else works.

pub mod asyncapi;
mod cloud_event;
pub mod relay;
mod withhold;

pub use cloud_event::{CloudEvent, CloudEventError, Positions, subject};
pub use relay::{Relay, RelayOptions, RelayState, RelayStatus};
