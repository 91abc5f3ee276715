//! The platform itself: tenants, accounts and their sessions, members, service accounts, modules, and who may use what.

pub mod access;
pub mod accounts;
pub mod activation;
pub mod consents;
pub mod granted;
pub mod granting;
pub mod grants;
pub mod launcher;
pub mod loaders;
pub mod manifests;
pub mod me;
pub mod members;
pub mod modules;
pub mod profile;
pub mod roles;
pub mod services;
pub mod sessions;
mod target;
pub mod tenants;

use async_graphql::{MergedObject, MergedSubscription};

// In groups: each merged object is nested in the one before it, and one chain of all of them is too deep for the compiler.

#[derive(MergedObject, Default)]
pub struct PlatformQuery(PeopleQuery, RightsQuery);

#[derive(MergedObject, Default)]
pub struct PeopleQuery(
    tenants::TenantQuery,
    accounts::AccountQuery,
    members::MemberQuery,
    modules::ModuleQuery,
    granted::GrantQuery,
    me::MeQuery,
);

#[derive(MergedObject, Default)]
pub struct RightsQuery(
    sessions::SessionQuery,
    services::ServiceAccountQuery,
    roles::RoleQuery,
    consents::ConsentQuery,
    access::AccessQuery,
    launcher::LauncherQuery,
);

#[derive(MergedObject, Default)]
pub struct PlatformMutation(PeopleMutation, RightsMutation);

#[derive(MergedObject, Default)]
pub struct PeopleMutation(
    tenants::TenantMutation,
    accounts::AccountMutation,
    members::MemberMutation,
    modules::ModuleMutation,
    granting::GrantMutation,
    sessions::SessionMutation,
);

#[derive(MergedObject, Default)]
pub struct RightsMutation(
    services::ServiceAccountMutation,
    roles::RoleMutation,
    consents::ConsentMutation,
    activation::ActivationMutation,
    profile::ProfileMutation,
);

#[derive(MergedSubscription, Default)]
pub struct PlatformSubscription(tenants::TenantSubscription, granted::GrantSubscription);
