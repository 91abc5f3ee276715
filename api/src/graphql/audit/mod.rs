//! The audit trail and the access log: who did what, and who was refused what.
//!
//! Both need the permission `audit.read` in the tenant that is asked about. Refuses to show two tenants at once.

pub mod denials;
pub mod detail;
pub mod door;
pub mod events;
pub mod settings;
pub mod trail;

use async_graphql::{MergedObject, MergedSubscription};
use daybook_store::access::AccessLog;
use daybook_store::keys::Sealer;

/// What only the audit's resolvers work with, and every refusal.
pub struct AuditParts {
    pub sealer: Sealer,
    pub access: AccessLog,
}

#[derive(MergedObject, Default)]
pub struct AuditQuery(trail::TrailQuery, denials::DenialsQuery, settings::SettingsQuery);

#[derive(MergedSubscription, Default)]
pub struct AuditSubscription(events::EventsSubscription);
