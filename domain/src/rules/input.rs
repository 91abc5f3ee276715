//! Rules from what people write: checked, bounded, and refused with their place.

use super::{
    ActionPattern, CONDITION_BYTES_MAX, Effect, FIELDS_MAX, FieldPath, FieldRead, FieldRule, RULES_MAX, Resource, Rule,
};
use crate::action::Action;
use crate::condition::Condition;
use crate::role::Role;
use crate::value::InvalidValue;

/// Rules as they were sent: an effect, an action, perhaps a condition, whether of own records only.
pub fn parse_rules<'a>(
    sent: Vec<(Effect, &str, Option<serde_json::Value>, bool)>,
    find: impl Fn(&str) -> Option<&'a Resource>,
) -> Result<Vec<Rule>, InvalidValue> {
    if sent.len() > RULES_MAX {
        return Err(InvalidValue::new(&["rules"], "TOO_MANY", format!("a role has at most {RULES_MAX} rules")));
    }
    let at =
        |nth: usize, code, message: String| InvalidValue::new(&["rules"], code, format!("rule {}: {message}", nth + 1));
    let mut rules = Vec::with_capacity(sent.len());
    for (nth, (effect, action, condition, own)) in sent.into_iter().enumerate() {
        let action = ActionPattern::parse(action).map_err(|invalid| at(nth, invalid.code, invalid.message))?;
        let known = Action::ALL.iter().find(|known| known.as_str() == action.as_str());
        if effect == Effect::Allow && known.is_some_and(|known| !Role::is_tenants(*known)) {
            let message = format!("{action} is the platform's alone; a role of a tenant can deny it, not allow it");
            return Err(at(nth, "FORBIDDEN_ACTION", message));
        }
        let resource = action.resource().and_then(&find);
        if let Some(condition) = &condition {
            if condition.to_string().len() > CONDITION_BYTES_MAX {
                let message = format!("its condition has more than {CONDITION_BYTES_MAX} bytes; make it shorter");
                return Err(at(nth, "TOO_LONG", message));
            }
            let Some(resource) = resource else {
                let message =
                    format!("{action} is about no resource whose fields are known here; leave the condition out");
                return Err(at(nth, "UNKNOWN_VALUE", message));
            };
            Condition::parse("condition", condition, resource.vocabulary())
                .map_err(|refused| at(nth, "MALFORMED", refused.to_string()))?;
        }
        if own && resource.is_none_or(|resource| resource.owner.is_none()) {
            return Err(at(
                nth,
                "UNKNOWN_VALUE",
                format!("{action} is about records that are nobody's own; leave own out"),
            ));
        }
        rules.push(Rule { effect, action, condition, own });
    }
    Ok(rules)
}

/// Field rules as they were sent: a field, what shows of it, whether it is read-only.
pub fn parse_fields<'a>(
    sent: Vec<(&str, FieldRead, bool)>,
    find: impl Fn(&str) -> Option<&'a Resource>,
) -> Result<Vec<FieldRule>, InvalidValue> {
    let refused = |code, message: String| Err(InvalidValue::new(&["fields"], code, message));
    if sent.len() > FIELDS_MAX {
        return refused("TOO_MANY", format!("a role has at most {FIELDS_MAX} field rules"));
    }
    let mut fields: Vec<FieldRule> = Vec::with_capacity(sent.len());
    for (field, read, read_only) in sent {
        let field = FieldPath::parse(field)?;
        if fields.iter().any(|other| other.field == field) {
            return refused("DUPLICATE", format!("{field} has two rules; give one"));
        }
        let of_known = field.as_str().split_once('.').and_then(|(name, of)| find(name).map(|known| (known, of)));
        if let Some((known, of)) = of_known
            && !known.hideable.contains(&of)
        {
            let fields = known.hideable.join(", ");
            return refused("UNKNOWN_VALUE", format!("{field} cannot be restricted: of {} can [{fields}]", known.name));
        }
        fields.push(FieldRule { field, read, read_only });
    }
    Ok(fields)
}
