//! The platform itself: tenants, and later accounts, memberships, roles and modules.

pub mod tenants;
