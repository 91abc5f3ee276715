//! Who may do what: one table, printed into `schemas/permissions.txt`, so that a changed permission is a
//! changed tick in a review.
//!
//! It knows nothing of memberships and credentials: the caller says which role somebody holds, and where.

use crate::action::Action;
use crate::ids::TenantId;
use std::fmt;

/// A fixed role. Roles that a tenant defines itself stand on top of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Operates the platform, across all tenants.
    PlatformAdmin,
    /// Runs one tenant.
    TenantAdmin,
    /// Works in one tenant.
    Member,
    /// Looks at one tenant.
    Viewer,
}

/// Where a role's permissions hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    Everywhere,
    OwnTenant,
}

impl Role {
    pub const ALL: &'static [Role] = &[Role::PlatformAdmin, Role::TenantAdmin, Role::Member, Role::Viewer];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::PlatformAdmin => "platformAdmin",
            Role::TenantAdmin => "tenantAdmin",
            Role::Member => "member",
            Role::Viewer => "viewer",
        }
    }

    /// The role of that name, or none: unknown denies.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.iter().copied().find(|role| role.as_str() == name)
    }

    pub fn reach(self) -> Reach {
        match self {
            Role::PlatformAdmin => Reach::Everywhere,
            Role::TenantAdmin | Role::Member | Role::Viewer => Reach::OwnTenant,
        }
    }

    /// Whether the role permits the action at all, wherever it reaches.
    pub fn allows(self, action: Action) -> bool {
        use Action::*;
        const Y: bool = true;
        const N: bool = false;
        #[rustfmt::skip]
        let [platform_admin, tenant_admin, member, viewer] = match action {
            //                       platform  tenant  member  viewer
            TenantRegister       => [Y,        N,      N,      N],
            TenantRename         => [Y,        Y,      N,      N],
            TenantChangePlan     => [Y,        N,      N,      N],
            TenantChangeSettings => [Y,        Y,      N,      N],
            TenantChangeContact  => [Y,        Y,      N,      N],
            TenantClaimDomain    => [Y,        N,      N,      N],
            TenantReleaseDomain  => [Y,        N,      N,      N],
            TenantSuspend        => [Y,        N,      N,      N],
            TenantReopen         => [Y,        N,      N,      N],
            TenantClose          => [Y,        N,      N,      N],
            TenantRead           => [Y,        Y,      Y,      Y],
            TenantList           => [Y,        N,      N,      N],
            TenantReadContact    => [Y,        Y,      N,      N],

            AccountRegister      => [Y,        N,      N,      N],
            AccountRename        => [Y,        N,      N,      N],
            AccountChangeEmail   => [Y,        N,      N,      N],
            AccountChangeProfile => [Y,        N,      N,      N],
            AccountSetPreference => [Y,        N,      N,      N],
            AccountDeactivate    => [Y,        N,      N,      N],
            AccountReactivate    => [Y,        N,      N,      N],
            AccountSetPassword   => [Y,        N,      N,      N],
            AccountGrantPlatformRole  => [Y,   N,      N,      N],
            AccountRevokePlatformRole => [Y,   N,      N,      N],
            AccountRevokeSessions => [Y,       N,      N,      N],
            AccountRead          => [Y,        N,      N,      N],
            AccountList          => [Y,        N,      N,      N],

            // Their streams are the platform's: a tenant's role does not reach them.
            SessionStart         => [Y,        N,      N,      N],
            SessionRefresh       => [Y,        N,      N,      N],
            SessionSwitchTenant  => [Y,        N,      N,      N],
            SessionEnd           => [Y,        N,      N,      N],

            MembershipAdd         => [Y,       Y,      N,      N],
            MembershipChangeRoles => [Y,       Y,      N,      N],
            MembershipEnd         => [Y,       Y,      N,      N],
            MembershipRejoin      => [Y,       Y,      N,      N],
            MembershipRead        => [Y,       Y,      Y,      Y],
            MembershipList        => [Y,       Y,      Y,      Y],
            MembershipReadPerson  => [Y,       Y,      Y,      N],

            ServiceRegister      => [Y,        Y,      N,      N],
            ServiceIssueKey      => [Y,        Y,      N,      N],
            ServiceRotateKey     => [Y,        Y,      N,      N],
            ServiceRevokeKey     => [Y,        Y,      N,      N],
            ServiceDeactivate    => [Y,        Y,      N,      N],
            ServiceList          => [Y,        Y,      N,      N],

            ModuleRegister       => [Y,        Y,      N,      N],
            ModuleUpgrade        => [Y,        Y,      N,      N],
            ModuleEnable         => [Y,        Y,      N,      N],
            ModuleDisable        => [Y,        Y,      N,      N],
            ModuleActivate       => [Y,        Y,      N,      N],
            ModuleRetire         => [Y,        Y,      N,      N],
            ModuleRead           => [Y,        Y,      Y,      Y],
            ModuleList           => [Y,        Y,      Y,      Y],

            GrantGrant           => [Y,        Y,      N,      N],
            GrantChangeExpiry    => [Y,        Y,      N,      N],
            GrantRevoke          => [Y,        Y,      N,      N],
            GrantRead            => [Y,        Y,      N,      N],
            GrantList            => [Y,        Y,      N,      N],

            RoleDefine           => [Y,        Y,      N,      N],
            RoleChange           => [Y,        Y,      N,      N],
            RoleRemove           => [Y,        Y,      N,      N],
            RoleRead             => [Y,        Y,      N,      N],
            RoleList             => [Y,        Y,      N,      N],
            AccessExplain        => [Y,        Y,      N,      N],

            ConsentGrant         => [Y,        Y,      N,      N],
            ConsentRevoke        => [Y,        Y,      N,      N],
            ConsentRead          => [Y,        Y,      N,      N],
            ConsentList          => [Y,        Y,      N,      N],
            ConsentUse           => [Y,        Y,      N,      N],

            ProjectionSkipEvent  => [Y,        N,      N,      N],

            AuditRead            => [Y,        Y,      N,      N],

            SchemaRead           => [Y,        Y,      N,      N],

            DeviceRegister       => [Y,        Y,      N,      N],
            DeviceRename         => [Y,        Y,      N,      N],
            DeviceChangeSite     => [Y,        Y,      N,      N],
            DeviceChangeMaxPower => [Y,        Y,      N,      N],
            DeviceDecommission   => [Y,        Y,      N,      N],
            DeviceRead           => [Y,        Y,      Y,      Y],
            DeviceList           => [Y,        Y,      Y,      Y],

            ReadingsRecord       => [Y,        Y,      Y,      N],
            ReadingsRead         => [Y,        Y,      Y,      Y],
        };
        match self {
            Role::PlatformAdmin => platform_admin,
            Role::TenantAdmin => tenant_admin,
            Role::Member => member,
            Role::Viewer => viewer,
        }
    }

    /// Whether an action is for roles of a tenant at all, and not the platform's alone.
    pub fn is_tenants(action: Action) -> bool {
        [Role::TenantAdmin, Role::Member, Role::Viewer].iter().any(|role| role.allows(action))
    }

    /// Whether the role, held in the tenant `home`, permits the action in the tenant `target`.
    pub fn allows_in(self, action: Action, home: TenantId, target: TenantId) -> bool {
        let reaches = match self.reach() {
            Reach::Everywhere => true,
            Reach::OwnTenant => home == target,
        };
        reaches && self.allows(action)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Role × action as text: the golden file `schemas/permissions.txt`. The same bytes every time.
pub fn permission_table() -> String {
    let row = |first: &str, cells: Vec<&str>| {
        let mut line = format!("{first:<28}");
        for cell in cells {
            line.push_str(&format!("{cell:<16}"));
        }
        format!("{}\n", line.trim_end())
    };
    let mut table = row("action", Role::ALL.iter().map(|role| role.as_str()).collect());
    let reach = |role: &Role| match role.reach() {
        Reach::Everywhere => "everywhere",
        Reach::OwnTenant => "own tenant",
    };
    table.push_str(&row("", Role::ALL.iter().map(reach).collect()));
    for action in Action::ALL {
        let tick = |role: &Role| if role.allows(*action) { "✓" } else { "-" };
        table.push_str(&row(action.as_str(), Role::ALL.iter().map(tick).collect()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn every_action_is_permitted_to_somebody() {
        for action in Action::ALL {
            assert!(Role::ALL.iter().any(|role| role.allows(*action)), "nobody may {action}");
        }
    }

    #[test]
    fn a_tenants_role_ends_at_its_tenant() {
        let (home, other) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
        for role in Role::ALL {
            assert!(role.allows_in(Action::TenantRead, home, home), "{role}");
            assert_eq!(role.allows_in(Action::TenantRead, home, other), *role == Role::PlatformAdmin, "{role}");
        }
    }

    #[test]
    fn a_name_that_is_no_role_gives_none() {
        assert_eq!(Role::from_name("tenantAdmin"), Some(Role::TenantAdmin));
        assert_eq!(Role::from_name("TenantAdmin"), None);
    }

    #[test]
    fn only_the_platform_sees_the_page_of_all_tenants() {
        for role in Role::ALL {
            assert_eq!(role.allows(Action::TenantList), *role == Role::PlatformAdmin, "{role}");
        }
    }
}
