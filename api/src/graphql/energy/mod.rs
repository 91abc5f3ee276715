//! Energy: devices, and what they measured.

pub mod devices;
pub mod live;
pub mod loader;
pub mod readings;
pub mod record;

use async_graphql::{MergedObject, MergedSubscription};

#[derive(MergedObject, Default)]
pub struct EnergyQuery(devices::DeviceQuery);

#[derive(MergedObject, Default)]
pub struct EnergyMutation(devices::DeviceMutation, record::ReadingsMutation);

#[derive(MergedSubscription, Default)]
pub struct EnergySubscription(live::ReadingsSubscription);
