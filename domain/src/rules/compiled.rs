//! What roles come to together, worked out once for everybody who holds the same.

use super::{Effect, FieldRead, Resource, RoleRules};
use crate::action::Action;
use crate::condition::Condition;
use crate::role::Role;
use std::sync::Arc;

/// Whether an action is permitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Never,
    Always,
    /// On records that fit, of which it must be true: unknown denies.
    If(Arc<Condition>),
}

/// What a caller may do with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FieldAccess {
    pub read: FieldRead,
    pub read_only: bool,
}

/// The rules of a set of roles, by action. Everybody who holds the same roles in the same versions shares one.
#[derive(Debug, Default)]
pub struct Permissions {
    roles: Vec<Arc<RoleRules>>,
    /// By known action, as [`Action::ALL`] is ordered: when a built-in role allows it, and when none does.
    known: Vec<(Verdict, Verdict)>,
}

impl Verdict {
    pub fn of(condition: Condition) -> Self {
        match condition {
            Condition::And(all) if all.is_empty() => Verdict::Always,
            Condition::Or(any) if any.is_empty() => Verdict::Never,
            condition => Verdict::If(Arc::new(condition)),
        }
    }

    /// Whether it permits anything at all.
    pub fn is_possible(&self) -> bool {
        *self != Verdict::Never
    }

    /// As a condition.
    pub fn condition(&self) -> Condition {
        match self {
            Verdict::Never => Condition::FALSE,
            Verdict::Always => Condition::TRUE,
            Verdict::If(condition) => (**condition).clone(),
        }
    }

    /// Both must permit.
    #[must_use]
    pub fn and(&self, other: &Verdict) -> Verdict {
        Verdict::of(Condition::all(vec![self.condition(), other.condition()]))
    }
}

impl Permissions {
    /// `find`: the resource of a name.
    pub fn compile<'a>(roles: Vec<Arc<RoleRules>>, find: impl Fn(&str) -> Option<&'a Resource>) -> Self {
        // Most members hold no role of the tenant's making.
        if roles.is_empty() {
            return Permissions::default();
        }
        let of = |action: &Action| {
            let (allow, deny) = sides(&roles, action.as_str(), &find);
            let allow = if Role::is_tenants(*action) { allow } else { Condition::FALSE };
            let not_denied = deny.negated();
            (Verdict::of(not_denied.clone()), Verdict::of(Condition::all(vec![allow, not_denied])))
        };
        let known = Action::ALL.iter().map(of).collect();
        Permissions { roles, known }
    }

    /// `allowed`: whether a built-in role allows it already. A deny wins over that too.
    pub fn verdict(&self, action: Action, allowed: bool) -> Verdict {
        match self.known.get(action as usize) {
            Some((of_allowed, _)) if allowed => of_allowed.clone(),
            Some((_, of_others)) => of_others.clone(),
            None if allowed => Verdict::Always,
            None => Verdict::Never,
        }
    }

    /// Of an action that is not the platform's, e.g. of a module.
    pub fn verdict_of<'a>(&self, action: &str, find: impl Fn(&str) -> Option<&'a Resource>) -> Verdict {
        let (allow, deny) = sides(&self.roles, action, &find);
        Verdict::of(Condition::all(vec![allow, deny.negated()]))
    }

    /// The strictest that any role says.
    pub fn field(&self, resource: &str, field: &str) -> FieldAccess {
        let mut access = FieldAccess::default();
        for rule in self.roles.iter().flat_map(|role| &role.fields).filter(|rule| rule.field.is(resource, field)) {
            access.read = access.read.max(rule.read);
            access.read_only |= rule.read_only;
        }
        access
    }

    /// Whether any role restricts fields of a resource.
    pub fn restricts_fields(&self) -> bool {
        self.roles.iter().any(|role| !role.fields.is_empty())
    }

    pub fn roles(&self) -> &[Arc<RoleRules>] {
        &self.roles
    }
}

/// When the rules allow an action, and when they deny it.
fn sides<'a>(
    roles: &[Arc<RoleRules>],
    action: &str,
    find: &impl Fn(&str) -> Option<&'a Resource>,
) -> (Condition, Condition) {
    let resource = action.split('.').next().unwrap_or_default();
    let (mut allows, mut denies) = (Vec::new(), Vec::new());
    for rule in roles.iter().flat_map(|role| &role.rules).filter(|rule| rule.action.covers(action)) {
        let condition = condition_of(rule, find(resource));
        match rule.effect {
            Effect::Allow => allows.push(condition.unwrap_or(Condition::FALSE)),
            Effect::Deny => denies.push(condition.unwrap_or(Condition::TRUE)),
        }
    }
    (Condition::any(allows), Condition::any(denies))
}

/// Of which records a rule holds; none where that cannot be told.
pub(super) fn condition_of(rule: &super::Rule, resource: Option<&Resource>) -> Option<Condition> {
    let mut parts = Vec::new();
    if let Some(json) = &rule.condition {
        parts.push(Condition::parse("condition", json, resource?.vocabulary()).ok()?);
    }
    if rule.own {
        let owner = resource?.owner?;
        parts.push(Condition::is_claim(owner.field, owner.claim));
    }
    Some(Condition::all(parts))
}
