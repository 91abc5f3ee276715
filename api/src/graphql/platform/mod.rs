//! The platform itself: tenants, accounts, members, modules, and who may use what.

pub mod access;
pub mod accounts;
pub mod consents;
pub mod granted;
pub mod granting;
pub mod grants;
pub mod loaders;
pub mod manifests;
pub mod members;
pub mod modules;
pub mod roles;
mod target;
pub mod tenants;

use async_graphql::{MergedObject, MergedSubscription};

#[derive(MergedObject, Default)]
pub struct PlatformQuery(
    tenants::TenantQuery,
    accounts::AccountQuery,
    members::MemberQuery,
    modules::ModuleQuery,
    granted::GrantQuery,
    roles::RoleQuery,
    consents::ConsentQuery,
    access::AccessQuery,
);

#[derive(MergedObject, Default)]
pub struct PlatformMutation(
    tenants::TenantMutation,
    accounts::AccountMutation,
    members::MemberMutation,
    modules::ModuleMutation,
    granting::GrantMutation,
    roles::RoleMutation,
    consents::ConsentMutation,
);

#[derive(MergedSubscription, Default)]
pub struct PlatformSubscription(tenants::TenantSubscription, granted::GrantSubscription);
