//! The platform itself: tenants, and later accounts, memberships, roles and modules.

pub mod tenant;

pub use tenant::{Tenant, TenantCommand, TenantError, TenantEvent};
