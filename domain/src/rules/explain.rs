//! Which rule decided, as data and in words.

use super::compiled::condition_of;
use super::{Effect, Permissions, Resource};
use crate::condition::{Claims, Record, Truth};

/// A rule that is about the action, and what it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Considered {
    /// The key of its role.
    pub role: String,
    /// Its place in the role, counted from 0; none for a built-in role, which is a table.
    pub rule: Option<usize>,
    pub effect: Effect,
    /// Whether it holds of the record; unknown where none was named and one is needed.
    pub truth: Truth,
    pub condition: Option<serde_json::Value>,
    pub own: bool,
}

/// Why something is permitted or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    pub allowed: bool,
    /// The rule that decided; none where no rule allows.
    pub decided: Option<Considered>,
    /// Every rule that is about the action, those of built-in roles first.
    pub considered: Vec<Considered>,
    pub words: String,
}

impl Considered {
    pub fn built_in(role: &str) -> Self {
        Considered {
            role: role.to_owned(),
            rule: None,
            effect: Effect::Allow,
            truth: Truth::True,
            condition: None,
            own: false,
        }
    }

    fn named(&self) -> String {
        let mut words = match self.rule {
            Some(rule) => format!("rule {} of the role {}", rule + 1, self.role),
            None => format!("the built-in role {}", self.role),
        };
        if self.own {
            words.push_str(", which is about the caller's own records,");
        } else if self.condition.is_some() {
            words.push_str(", which has a condition,");
        }
        words
    }
}

impl Permissions {
    /// Explains an action on a record to a caller. `built_in`: the built-in roles that allow it.
    /// `ceiling`: whether rules of a tenant may allow it at all.
    pub fn explain<'a>(
        &self,
        action: &str,
        built_in: &[&str],
        ceiling: bool,
        record: &(impl Record + ?Sized),
        claims: &Claims,
        find: impl Fn(&str) -> Option<&'a Resource>,
    ) -> Explanation {
        let resource = find(action.split('.').next().unwrap_or_default());
        let mut considered: Vec<Considered> = built_in.iter().map(|role| Considered::built_in(role)).collect();
        for role in self.roles() {
            for (nth, rule) in role.rules.iter().enumerate().filter(|(_, rule)| rule.action.covers(action)) {
                if rule.effect == Effect::Allow && !ceiling {
                    continue;
                }
                let truth = condition_of(rule, resource).map_or(Truth::Unknown, |c| c.judge(record, claims));
                considered.push(Considered {
                    role: role.key.clone(),
                    rule: Some(nth),
                    effect: rule.effect,
                    truth,
                    condition: rule.condition.clone(),
                    own: rule.own,
                });
            }
        }
        // What is not known to be false denies.
        let denying = considered.iter().find(|one| one.effect == Effect::Deny && one.truth != Truth::False);
        let allowing = considered.iter().find(|one| one.effect == Effect::Allow && one.truth.holds());
        let doubtful = considered.iter().find(|one| one.effect == Effect::Allow && one.truth == Truth::Unknown);
        let (allowed, decided, words) = match (denying, allowing, doubtful) {
            (Some(rule), _, _) if rule.truth == Truth::True => {
                (false, Some(rule), format!("{} denies {action}, and a denial wins", rule.named()))
            }
            (Some(rule), _, _) => (
                false,
                Some(rule),
                format!("{} denies {action} unless it is known not to hold, and that is not known here", rule.named()),
            ),
            (None, Some(rule), _) => (true, Some(rule), format!("{} allows {action}", rule.named())),
            (None, None, Some(rule)) => {
                (false, None, format!("{} would allow {action}, but whether it holds here is not known", rule.named()))
            }
            (None, None, None) if considered.is_empty() => {
                (false, None, format!("no rule of any role held is about {action}"))
            }
            (None, None, None) => (false, None, format!("rules are about {action}, but none of them holds here")),
        };
        Explanation { allowed, decided: decided.cloned(), words, considered }
    }
}
