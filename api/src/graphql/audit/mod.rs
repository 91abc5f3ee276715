//! The audit trail and the access log: who did what, and who was refused what.
//!
//! Both need the permission `audit.read` in the tenant that is asked about. Refuses to show two tenants at once.

pub mod denials;
pub mod detail;
pub mod door;
pub mod events;
pub mod trail;

use super::errors::{Code, error};
use async_graphql::{MergedObject, MergedSubscription, Result};
use daybook_store::access::AccessLog;
use daybook_store::keys::Sealer;

/// What only the audit's resolvers work with, and every refusal.
pub struct AuditParts {
    pub sealer: Sealer,
    pub access: AccessLog,
}

#[derive(MergedObject, Default)]
pub struct AuditQuery(trail::TrailQuery, denials::DenialsQuery);

#[derive(MergedSubscription, Default)]
pub struct AuditSubscription(events::EventsSubscription);

/// Characters of a text that is filtered by.
const TEXT_CHARS_MAX: usize = 200;

/// A text to compare with.
///
/// # Errors
/// `BAD_USER_INPUT` for what no such text can be.
fn text(name: &str, text: Option<String>) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX || text.chars().any(char::is_control) {
        let message = format!("filter.{name} is no name: give 1 to {TEXT_CHARS_MAX} characters, or leave it out");
        return Err(error(Code::BadUserInput, message));
    }
    Ok(Some(text))
}
