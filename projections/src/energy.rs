//! Energy: devices, and what they measured.

pub mod devices;
pub mod live;
pub mod readings;
