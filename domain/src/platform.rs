//! The platform itself: tenants, accounts and their sessions, who is a member of what, service accounts, modules and
//! who may use them.

pub mod account;
pub mod consent;
pub(crate) mod contracts;
pub mod grant;
pub mod membership;
pub mod module;
pub mod projection;
pub mod role;
pub mod service;
pub mod session;
pub mod switch;
pub mod tenant;

#[cfg(test)]
pub(crate) mod testing;

pub use account::{Account, AccountCommand, AccountError, AccountEvent, PlatformRole};
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
pub use service::{Service, ServiceCommand, ServiceError, ServiceEvent};
pub use session::{Session, SessionCommand, SessionError, SessionEvent};
pub use switch::{ModuleSwitch, ModuleSwitchCommand, ModuleSwitchError, ModuleSwitchEvent, module_switch_id};
pub use tenant::{Tenant, TenantCommand, TenantError, TenantEvent};
