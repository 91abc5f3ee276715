//! The platform itself: tenants, accounts, who is a member of what, modules and who may use them.

pub mod account;
pub mod consent;
pub(crate) mod contracts;
pub mod grant;
pub mod membership;
pub mod module;
pub mod projection;
pub mod role;
pub mod tenant;

#[cfg(test)]
pub(crate) mod testing;

pub use account::{Account, AccountCommand, AccountError, AccountEvent};
pub use consent::{Consent, ConsentCommand, ConsentError, ConsentEvent, consent_id};
pub use grant::{AccessGrant, AccessGrantCommand, AccessGrantError, AccessGrantEvent, GrantTerm, grant_id};
pub use membership::{
    HeldRole, Membership, MembershipCommand, MembershipError, MembershipEvent, Roles, TenantRole, membership_id,
};
pub use module::{Manifest, Module, ModuleCommand, ModuleError, ModuleEvent};
pub use projection::{
    Projection, ProjectionCommand, ProjectionError, ProjectionEvent, operator_subject, projection_id,
};
pub use role::{DefinedRole, RoleCommand, RoleError, RoleEvent, role_id};
pub use tenant::{Tenant, TenantCommand, TenantError, TenantEvent};
