//! What every operation, nested field, route and export reads or changes: the permission that it needs.
//!
//! A new one is a line here; a test walks the schema, the routes and the verbs, and fails for whatever is missing. Another one
//! carries each operation out with that one permission and with all but that one, so that what is declared is what is
//! enforced. Printed into `schemas/access.txt`.

use daybook_domain::{Action, Role};

/// What it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// This permission.
    Action(Action),
    /// This one, or to ask about what is one's own.
    OwnOr(Action),
    /// A valid credential, whatever it permits.
    Credential,
    /// The session of an account, whatever it permits: it is about one's own.
    Session,
    /// Nothing: it tells nothing of any tenant.
    Nothing,
    /// What only nodes of the same cluster can sign.
    Node,
    /// The machine that Daybook runs on: its data directory, keys and database.
    Operator,
}

use Action as A;
use Needs::{Action as To, Credential, Node, Nothing, Operator, OwnOr, Session};

/// By root type and field.
pub const OPERATIONS: &[(&str, &[(&str, Needs)])] = &[
    (
        "Query",
        &[
            ("account", To(A::AccountRead)),
            ("accounts", To(A::AccountList)),
            ("auditTrail", To(A::AuditRead)),
            ("consent", To(A::ConsentRead)),
            ("consents", To(A::ConsentList)),
            ("customers", To(A::ConsentUse)),
            ("deniedAttempts", To(A::AuditRead)),
            ("device", To(A::DeviceRead)),
            ("devices", To(A::DeviceList)),
            ("explainAccess", OwnOr(A::AccessExplain)),
            ("grant", OwnOr(A::GrantRead)),
            ("grants", OwnOr(A::GrantList)),
            ("me", Credential),
            ("member", To(A::MembershipRead)),
            ("members", To(A::MembershipList)),
            ("module", To(A::ModuleRead)),
            ("modules", To(A::ModuleList)),
            ("myModules", Credential),
            ("myPermissions", Credential),
            ("mySessions", Credential),
            ("role", To(A::RoleRead)),
            ("rolePresets", Credential),
            ("roles", To(A::RoleList)),
            ("serviceAccounts", To(A::ServiceList)),
            ("settingsHistory", To(A::AuditRead)),
            ("tenant", To(A::TenantRead)),
            ("tenants", To(A::TenantList)),
        ],
    ),
    (
        "Mutation",
        &[
            ("addMember", To(A::MembershipAdd)),
            ("changeAccountEmail", To(A::AccountChangeEmail)),
            ("changeDeviceMaxPower", To(A::DeviceChangeMaxPower)),
            ("changeDeviceSite", To(A::DeviceChangeSite)),
            ("changeGrantExpiry", To(A::GrantChangeExpiry)),
            ("changeMemberRoles", To(A::MembershipChangeRoles)),
            ("changePassword", Session),
            ("changeRole", To(A::RoleChange)),
            ("changeTenantContact", To(A::TenantChangeContact)),
            ("changeTenantPlan", To(A::TenantChangePlan)),
            ("changeTenantSettings", To(A::TenantChangeSettings)),
            ("claimTenantDomain", To(A::TenantClaimDomain)),
            ("closeTenant", To(A::TenantClose)),
            ("deactivateAccount", To(A::AccountDeactivate)),
            ("deactivateServiceAccount", To(A::ServiceDeactivate)),
            ("decommissionDevice", To(A::DeviceDecommission)),
            ("defineRole", To(A::RoleDefine)),
            ("disableModule", To(A::ModuleDisable)),
            ("enableModule", To(A::ModuleEnable)),
            ("endMembership", To(A::MembershipEnd)),
            ("grantAccess", To(A::GrantGrant)),
            ("grantConsent", To(A::ConsentGrant)),
            ("grantPlatformAdmin", To(A::AccountGrantPlatformRole)),
            ("installRoles", To(A::RoleDefine)),
            ("issueApiKey", To(A::ServiceIssueKey)),
            ("login", Nothing),
            // Of the session whose token comes with it.
            ("logout", Nothing),
            ("reactivateAccount", To(A::AccountReactivate)),
            ("recordReadings", To(A::ReadingsRecord)),
            // Whoever has the refresh token.
            ("refresh", Nothing),
            ("registerAccount", To(A::AccountRegister)),
            ("registerDevice", To(A::DeviceRegister)),
            ("registerModule", To(A::ModuleRegister)),
            ("registerServiceAccount", To(A::ServiceRegister)),
            ("registerTenant", To(A::TenantRegister)),
            ("rejoinMember", To(A::MembershipRejoin)),
            ("releaseTenantDomain", To(A::TenantReleaseDomain)),
            ("removeRole", To(A::RoleRemove)),
            ("renameAccount", To(A::AccountRename)),
            ("renameDevice", To(A::DeviceRename)),
            ("renameTenant", To(A::TenantRename)),
            ("reopenTenant", To(A::TenantReopen)),
            ("retireModule", To(A::ModuleRetire)),
            ("revokeAccess", To(A::GrantRevoke)),
            ("revokeAllSessions", OwnOr(A::AccountRevokeSessions)),
            ("revokeApiKey", To(A::ServiceRevokeKey)),
            ("revokeConsent", To(A::ConsentRevoke)),
            ("revokePlatformAdmin", To(A::AccountRevokePlatformRole)),
            ("revokeSession", Session),
            ("rotateApiKey", To(A::ServiceRotateKey)),
            // For all tenants in the platform's own.
            ("setModuleActivation", To(A::ModuleActivate)),
            ("setMyPreference", Session),
            ("setPassword", To(A::AccountSetPassword)),
            ("suspendTenant", To(A::TenantSuspend)),
            ("switchTenant", Session),
            ("updateMyProfile", Session),
            ("upgradeModule", To(A::ModuleUpgrade)),
        ],
    ),
    (
        "Subscription",
        &[
            ("events", To(A::AuditRead)),
            ("grantChanged", To(A::GrantList)),
            ("readings", To(A::ReadingsRead)),
            ("tenantChanged", To(A::TenantRead)),
        ],
    ),
];

/// Fields that ask for more than their parent did.
pub const FIELDS: &[(&str, &str, Needs)] = &[
    ("Device", "readingTotals", To(A::ReadingsRead)),
    ("Device", "readings", To(A::ReadingsRead)),
    ("Grant", "member", To(A::MembershipRead)),
    ("Grant", "module", To(A::ModuleRead)),
    ("Member", "person", To(A::MembershipReadPerson)),
    ("Tenant", "contact", To(A::TenantReadContact)),
];

/// What tells of the API itself, unless `--introspection` says otherwise.
pub const INTROSPECTION: &[(&str, &str, Needs)] =
    &[("Query", "__schema", To(A::SchemaRead)), ("Query", "__type", To(A::SchemaRead))];

/// Paths that are answered over HTTP.
pub const ROUTES: &[(&str, Needs)] = &[
    ("/.well-known/jwks.json", Nothing),
    ("/auth/login", Nothing),
    ("/auth/logout", Nothing),
    ("/auth/me", Credential),
    ("/auth/refresh", Nothing),
    // By operation, as above.
    ("/graphql", Credential),
    ("/graphiql", Nothing),
    ("/graphiql/{edition}/{file}", Nothing),
    ("/health/live", Nothing),
    ("/health/ready", Nothing),
    ("/internal/append", Node),
    // Kept inside by the network: it tells of loads, not of tenants.
    ("/metrics", Nothing),
    ("/v1/readings", To(A::ReadingsRecord)),
];

/// Verbs of the program that read or write data.
pub const VERBS: &[(&str, Needs)] = &[
    ("admin", Operator),
    ("backup", Operator),
    ("config", Operator),
    ("demo", Operator),
    ("export", Operator),
    ("migrate", Operator),
    // It looks at a file, and at nothing of ours.
    ("modules", Nothing),
    ("projections", Operator),
    ("rebuild", Operator),
    ("replay", Operator),
    ("restore", Operator),
    ("schemas", Operator),
    ("serve", Operator),
    ("verify", Operator),
];

impl Needs {
    /// The permission, if it needs one.
    pub fn action(self) -> Option<Action> {
        match self {
            To(action) | OwnOr(action) => Some(action),
            Credential | Session | Nothing | Node | Operator => None,
        }
    }
}

/// Everything that is declared, with the built-in roles that have it: the golden file `schemas/access.txt`.
pub fn table() -> String {
    let mut text = String::from("what                              needs                      built-in roles\n");
    let mut line = |what: String, needs: Needs| {
        let (needs, roles) = match needs {
            To(action) | OwnOr(action) => {
                let roles: Vec<&str> =
                    Role::ALL.iter().filter(|role| role.allows(action)).map(|role| role.as_str()).collect();
                let own = if matches!(needs, OwnOr(_)) { " or own" } else { "" };
                (format!("{action}{own}"), roles.join(" "))
            }
            Credential => ("a credential".to_owned(), String::new()),
            Session => ("a session".to_owned(), String::new()),
            Nothing => ("nothing".to_owned(), String::new()),
            Node => ("a node's signature".to_owned(), String::new()),
            Operator => ("the machine".to_owned(), String::new()),
        };
        let line = format!("{what:<34}{needs:<27}{roles}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for (root, fields) in OPERATIONS {
        for (field, needs) in *fields {
            line(format!("{root}.{field}"), *needs);
        }
    }
    for (parent, field, needs) in FIELDS.iter().chain(INTROSPECTION) {
        line(format!("{parent}.{field}"), *needs);
    }
    for (path, needs) in ROUTES {
        line(format!("HTTP {path}"), *needs);
    }
    for (verb, needs) in VERBS {
        line(format!("daybook {verb}"), *needs);
    }
    text
}
