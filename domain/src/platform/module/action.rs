//! What may be done in a module, as actions that rules are about: `modules.<key>.<permission>`, e.g.
//! `modules.bess-sizing.project.create`. No action of the platform begins with `modules.`, so whatever a manifest says, it gives
//! nothing of the platform's.

use super::manifest::ModuleRole;
use super::values::{ModuleKey, Permission, RoleKey};
use crate::rules::{ActionPattern, Effect, RoleRules, Rule};
use std::fmt;

/// The first word of these actions.
pub const MODULES: &str = "modules";

/// Ends a permission that is about one's own records only.
const OWN: &str = ":own";

/// Something that may be done in a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleAction {
    pub key: ModuleKey,
    pub permission: Permission,
}

impl ModuleAction {
    /// None for what is no action of a module.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, permission) = text.strip_prefix(MODULES)?.strip_prefix('.')?.split_once('.')?;
        Some(ModuleAction { key: ModuleKey::parse(key).ok()?, permission: Permission::parse(permission).ok()? })
    }
}

impl fmt::Display for ModuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MODULES}.{}.{}", self.key, self.permission)
    }
}

/// What a role of a module comes to for who holds it by a grant. Called `<key>/<role>`, as no role of a tenant's making is.
pub fn rules_of(key: &ModuleKey, role: &RoleKey, of: &ModuleRole) -> RoleRules {
    let rule = |permission: &Permission| {
        let (name, own) = match permission.as_str().strip_suffix(OWN) {
            Some(name) => (name, true),
            None => (permission.as_str(), false),
        };
        Rule { effect: Effect::Allow, action: ActionPattern::of_module(key.as_str(), name), condition: None, own }
    };
    RoleRules { key: format!("{key}/{role}"), rules: of.permissions.iter().map(rule).collect(), fields: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::condition::{Claims, Record, Truth, Value};
    use crate::rules::{Permissions, find};
    use crate::value::Name;
    use std::sync::Arc;
    use uuid::Uuid;

    struct Owned(Option<Uuid>);

    impl Record for Owned {
        fn value(&self, field: &str) -> Option<Value> {
            self.0.filter(|_| field == "owner").map(Value::from)
        }
    }

    fn may(permissions: &[&str], action: &str, owner: Option<Uuid>) -> bool {
        let key = ModuleKey::parse("bess").expect("a key");
        let role = RoleKey::parse("engineer").expect("a key");
        let parsed = permissions.iter().map(|text| Permission::parse_of_role(text).expect("a permission")).collect();
        let of = ModuleRole { name: Name::parse("Engineer").expect("a name"), permissions: parsed };
        let held = Permissions::compile(vec![Arc::new(rules_of(&key, &role, &of))], find);
        let claims = Claims::default().with("account", Uuid::from_u128(1));
        held.verdict_of(action, find).condition().judge(&Owned(owner), &claims) == Truth::True
    }

    #[test]
    fn a_role_gives_its_permissions_in_its_module_and_nothing_else() {
        for (permissions, action, expected) in [
            (&["project.create"] as &[&str], "modules.bess.project.create", true),
            (&["project.create"], "modules.bess.project.delete", false),
            (&["project.create"], "modules.other.project.create", false),
            (&["*"], "modules.bess.whatever.there.is", true),
            (&["*"], "modules.bess-2.whatever", false),
            (&["*", "device.rename"], "device.rename", false),
            (&[], "modules.bess.project.create", false),
        ] {
            assert_eq!(may(permissions, action, None), expected, "{permissions:?}: {action}");
        }
    }

    #[test]
    fn what_is_for_ones_own_records_is_for_them_alone() {
        let (own, others) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        for (owner, expected) in [(own, true), (others, false), (None, false)] {
            assert_eq!(may(&["project.edit:own"], "modules.bess.project.edit", owner), expected, "{owner:?}");
        }
        assert!(may(&["project.edit:own", "project.edit"], "modules.bess.project.edit", others));
    }

    #[test]
    fn no_action_of_the_platform_is_one_of_a_module() {
        assert!(Action::ALL.iter().all(|action| ModuleAction::parse(action.as_str()).is_none()));
        assert!(Action::ALL.iter().all(|action| !action.as_str().starts_with("modules.")));
        for text in ["modules", "modules.bess", "modules.bess.", "modules.Bess.x", "modules.bess.*", "module.bess.x"] {
            assert_eq!(ModuleAction::parse(text), None, "{text}");
        }
        let parsed = ModuleAction::parse("modules.bess-sizing.project.create").expect("an action");
        assert_eq!(parsed.to_string(), "modules.bess-sizing.project.create");
    }
}
