//! What may be permitted or denied: one name per command and per kind of read.
//!
//! It says what can be asked for, not who may ask: that is [`crate::role`].

use std::fmt;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident;)+) => {
        /// A permission. Its name is part of the contract: grants, audit lines and clients hold it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Action {
            $($(#[$doc])* $variant,)+
        }

        impl Action {
            /// Every action, in the order of the permission table.
            pub const ALL: &'static [Action] = &[$(Action::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Action::$variant => $name,)+
                }
            }

            /// The action of that name, or none: unknown denies.
            pub fn from_name(name: &str) -> Option<Action> {
                match name {
                    $($name => Some(Action::$variant),)+
                    _ => None,
                }
            }

            /// Whether it changes something or only looks.
            pub fn kind(self) -> ActionKind {
                match self {
                    $(Action::$variant => ActionKind::$kind,)+
                }
            }
        }
    };
}

/// Whether an action writes an event or only looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActionKind {
    Command,
    Read,
}

actions! {
    TenantRegister = "tenant.register", Command;
    TenantRename = "tenant.rename", Command;
    TenantChangePlan = "tenant.changePlan", Command;
    TenantChangeSettings = "tenant.changeSettings", Command;
    TenantChangeContact = "tenant.changeContact", Command;
    /// That a domain is a tenant's is for the platform to find out.
    TenantClaimDomain = "tenant.claimDomain", Command;
    TenantReleaseDomain = "tenant.releaseDomain", Command;
    TenantSuspend = "tenant.suspend", Command;
    TenantReopen = "tenant.reopen", Command;
    TenantClose = "tenant.close", Command;
    /// One tenant, without its contact.
    TenantRead = "tenant.read", Read;
    /// The page of all tenants: the platform's alone.
    TenantList = "tenant.list", Read;
    /// The contact, which is personal data.
    TenantReadContact = "tenant.readContact", Read;

    AccountRegister = "account.register", Command;
    AccountRename = "account.rename", Command;
    AccountChangeEmail = "account.changeEmail", Command;
    /// What somebody says of themselves, and how they like things. Nobody does it for another.
    AccountChangeProfile = "account.changeProfile", Command;
    AccountSetPreference = "account.setPreference", Command;
    AccountDeactivate = "account.deactivate", Command;
    AccountReactivate = "account.reactivate", Command;
    /// Gives an account a password. One's own needs no permission, but the one of before.
    AccountSetPassword = "account.setPassword", Command;
    AccountGrantPlatformRole = "account.grantPlatformRole", Command;
    AccountRevokePlatformRole = "account.revokePlatformRole", Command;
    /// Ends every session of an account. One's own need no permission.
    AccountRevokeSessions = "account.revokeSessions", Command;
    /// One account with its name and e-mail, whatever tenants it is in.
    AccountRead = "account.read", Read;
    /// The page of all accounts: the platform's alone.
    AccountList = "account.list", Read;

    /// What a login does in the name of who logs in. Nobody does it for another.
    SessionStart = "session.start", Command;
    SessionRefresh = "session.refresh", Command;
    SessionSwitchTenant = "session.switchTenant", Command;
    /// Ends one session. One's own need no permission.
    SessionEnd = "session.end", Command;

    MembershipAdd = "membership.add", Command;
    MembershipChangeRoles = "membership.changeRoles", Command;
    MembershipEnd = "membership.end", Command;
    MembershipRejoin = "membership.rejoin", Command;
    /// One membership: its account's id, roles and state.
    MembershipRead = "membership.read", Read;
    MembershipList = "membership.list", Read;
    /// The name and e-mail behind a membership, which are personal data.
    MembershipReadPerson = "membership.readPerson", Read;

    ServiceRegister = "service.register", Command;
    ServiceIssueKey = "service.issueKey", Command;
    ServiceRotateKey = "service.rotateKey", Command;
    ServiceRevokeKey = "service.revokeKey", Command;
    ServiceDeactivate = "service.deactivate", Command;
    /// Service accounts and their keys, without the secrets.
    ServiceList = "service.list", Read;

    ModuleRegister = "module.register", Command;
    ModuleUpgrade = "module.upgrade", Command;
    ModuleEnable = "module.enable", Command;
    ModuleDisable = "module.disable", Command;
    /// Switches a module on or off: for the tenant or for one member; in the platform's tenant, for all of them.
    ModuleActivate = "module.activate", Command;
    ModuleRetire = "module.retire", Command;
    ModuleRead = "module.read", Read;
    ModuleList = "module.list", Read;

    GrantGrant = "grant.grant", Command;
    GrantChangeExpiry = "grant.changeExpiry", Command;
    GrantRevoke = "grant.revoke", Command;
    /// Who may use what. One's own grants need no permission.
    GrantRead = "grant.read", Read;
    GrantList = "grant.list", Read;

    RoleDefine = "role.define", Command;
    RoleChange = "role.change", Command;
    RoleRemove = "role.remove", Command;
    /// A role of the tenant's making, with its rules.
    RoleRead = "role.read", Read;
    RoleList = "role.list", Read;
    /// Why somebody else may do something, or may not.
    AccessExplain = "access.explain", Read;

    ConsentGrant = "consent.grant", Command;
    ConsentRevoke = "consent.revoke", Command;
    ConsentRead = "consent.read", Read;
    ConsentList = "consent.list", Read;
    /// To read of other tenants what they have consented to.
    ConsentUse = "consent.use", Read;

    /// An event is left out of a read model: the platform's operators alone.
    ProjectionSkipEvent = "projection.skipEvent", Command;

    /// Every event of a tenant and every denied attempt in it.
    AuditRead = "audit.read", Read;

    /// What the API can be asked: introspection, and suggestions for what is misspelt.
    SchemaRead = "schema.read", Read;

    DeviceRegister = "device.register", Command;
    DeviceRename = "device.rename", Command;
    DeviceChangeSite = "device.changeSite", Command;
    DeviceChangeMaxPower = "device.changeMaxPower", Command;
    DeviceDecommission = "device.decommission", Command;
    DeviceRead = "device.read", Read;
    DeviceList = "device.list", Read;

    ReadingsRecord = "readings.record", Command;
    ReadingsRead = "readings.read", Read;
}

/// A command that names the permission it needs.
pub trait Guarded {
    fn action(&self) -> Action;

    /// Fields of its resource that it sets and that a role can make read-only.
    fn sets(&self) -> &'static [&'static str] {
        &[]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_actions_share_a_name() {
        let names: BTreeSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
