//! Energy: devices, what they measured, and the units and wall clocks that readings arrive in.
//!
//! Inside, energy is whole watt-hours and time is UTC; everything else is converted at the door, exactly or not at all.

pub(crate) mod contracts;
pub mod device;
pub mod local_time;
pub mod quantity;
pub mod readings;
pub mod values;

pub use device::{Device, DeviceCommand, DeviceError, DeviceEvent};
pub use readings::{Readings, ReadingsCommand, ReadingsError, ReadingsEvent};
