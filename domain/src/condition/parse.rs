//! Conditions from JSON: bounded in every direction, checked against what may be named, and every refusal names its place.

use super::{
    CONDITIONS_MAX, ClaimOf, Condition, DEPTH_MAX, Field, Kind, LIST_MAX, Operand, Operands, TEXT_CHARS_MAX, Test,
    Value, Vocabulary, WHOLE_MAX,
};
use chrono::{DateTime, Datelike, Utc};
use serde_json::Value as Json;
use std::fmt;
use uuid::Uuid;

/// Years that a moment may lie in.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;
/// Operators, for messages.
const OPERATORS: &str = "eq, ne, in, notIn, lt, lte, gt, gte, startsWith and isNull";

/// Why there is no condition. Its text names the place and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Refused {
    /// Of the member at fault, e.g. `condition`, `or`, `1`, `name`, `in`.
    pub path: Vec<String>,
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, step) in self.path.iter().enumerate() {
            match (nth, step.bytes().all(|byte| byte.is_ascii_digit())) {
                (_, true) => write!(f, "[{step}]")?,
                (0, false) => write!(f, "{step}")?,
                (_, false) => write!(f, ".{step}")?,
            }
        }
        write!(f, " {}", self.reason)
    }
}

impl Condition {
    /// Reads a condition. `name`: of the member that it is in, for messages.
    ///
    /// # Errors
    /// [`Refused`] where it is too large, names what is not in the vocabulary, or compares two kinds.
    pub fn parse(name: &str, json: &Json, vocabulary: Vocabulary<'_>) -> Result<Condition, Refused> {
        let mut reader = Reader { path: vec![name.to_owned()], conditions: 0, vocabulary };
        reader.object(json, 0)
    }
}

struct Reader<'a> {
    path: Vec<String>,
    conditions: usize,
    vocabulary: Vocabulary<'a>,
}

impl Reader<'_> {
    fn refused<T>(&self, reason: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { path: self.path.clone(), reason: reason.into() })
    }

    fn at<T>(
        &mut self,
        step: impl ToString,
        inside: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let step: String = step.to_string().chars().take(64).collect();
        self.path.push(step);
        let read = inside(self);
        self.path.pop();
        read
    }

    fn count(&mut self) -> Result<(), Refused> {
        self.conditions += 1;
        if self.conditions <= CONDITIONS_MAX {
            return Ok(());
        }
        self.refused(format!("is one comparison too many: at most {CONDITIONS_MAX} are allowed in all"))
    }

    fn deeper(&mut self, json: &Json, depth: usize) -> Result<Condition, Refused> {
        if depth == DEPTH_MAX {
            return self.refused(format!("is more than {DEPTH_MAX} levels deep: nest less"));
        }
        self.count()?;
        self.object(json, depth + 1)
    }

    fn object(&mut self, json: &Json, depth: usize) -> Result<Condition, Refused> {
        let Some(members) = json.as_object() else {
            return self.refused(r#"is no object: write e.g. {"region": {"eq": "North"}}"#);
        };
        if members.is_empty() {
            return self.refused("is empty, which would hold of everything: leave the condition out instead");
        }
        let mut parts = Vec::with_capacity(members.len());
        for (name, json) in members {
            let part = self.at(name, |reader| match name.as_str() {
                "and" | "or" => reader.list(name, json, depth),
                "not" => reader.deeper(json, depth).map(|inner| Condition::Not(Box::new(inner))),
                _ => reader.field(name, json),
            })?;
            parts.push(part);
        }
        Ok(one_or_all(parts))
    }

    fn list(&mut self, name: &str, json: &Json, depth: usize) -> Result<Condition, Refused> {
        let items = match json.as_array() {
            Some(items) if !items.is_empty() => items,
            Some(_) | None => return self.refused("needs a list of one or more conditions"),
        };
        let mut parts = Vec::with_capacity(items.len().min(CONDITIONS_MAX));
        for (nth, item) in items.iter().enumerate() {
            parts.push(self.at(nth, |reader| reader.deeper(item, depth))?);
        }
        Ok(if name == "or" { Condition::Or(parts) } else { Condition::And(parts) })
    }

    fn field(&mut self, name: &str, json: &Json) -> Result<Condition, Refused> {
        let Some(field) = self.vocabulary.fields.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = self.vocabulary.fields.iter().map(|field| &*field.name).collect();
            return self.refused(match known.is_empty() {
                true => "names a field, and this resource has none that a condition may name".to_owned(),
                false => format!("is no field of this resource: there are {}", known.join(", ")),
            });
        };
        let tests = match json.as_object() {
            Some(tests) if !tests.is_empty() => tests,
            Some(_) | None => return self.refused(format!("needs an object with one of {OPERATORS}")),
        };
        let mut parts = Vec::with_capacity(tests.len());
        for (operator, json) in tests {
            let test = self.at(operator, |reader| {
                reader.count()?;
                reader.test(field, operator, json)
            })?;
            parts.push(Condition::Is(field.name.clone(), test));
        }
        Ok(one_or_all(parts))
    }

    fn test(&mut self, field: &Field, operator: &str, json: &Json) -> Result<Test, Refused> {
        let kind = field.kind;
        if matches!(operator, "lt" | "lte" | "gt" | "gte") && !kind.is_ordered() {
            return self.refused("does not fit: values of this field have no order");
        }
        if operator == "startsWith" && kind != Kind::Text {
            return self.refused("does not fit: this field is no text");
        }
        Ok(match operator {
            "eq" => Test::Eq(self.operand(kind, json)?),
            "ne" => Test::Ne(self.operand(kind, json)?),
            "lt" => Test::Lt(self.operand(kind, json)?),
            "lte" => Test::Lte(self.operand(kind, json)?),
            "gt" => Test::Gt(self.operand(kind, json)?),
            "gte" => Test::Gte(self.operand(kind, json)?),
            "startsWith" => Test::StartsWith(self.operand(kind, json)?),
            "in" => Test::In(self.operands(kind, json)?),
            "notIn" => Test::NotIn(self.operands(kind, json)?),
            "isNull" => match json.as_bool() {
                Some(null) => Test::IsNull(null),
                None => return self.refused("needs true or false"),
            },
            _ => return self.refused(format!("is no operator: there are {OPERATORS}")),
        })
    }

    fn operand(&mut self, kind: Kind, json: &Json) -> Result<Operand, Refused> {
        match json {
            Json::Object(_) => self.claim(kind, false, json).map(|claim| Operand::Claim(claim.name)),
            literal => self.literal(kind, literal).map(Operand::Literal),
        }
    }

    fn operands(&mut self, kind: Kind, json: &Json) -> Result<Operands, Refused> {
        let items = match json {
            Json::Object(_) => return self.claim(kind, true, json).map(|claim| Operands::Claim(claim.name)),
            Json::Array(items) => items,
            _ => return self.refused("needs a list of values, or a claim that is a list"),
        };
        if items.is_empty() || items.len() > LIST_MAX {
            return self.refused(format!("has {} values: give 1 to {LIST_MAX}", items.len()));
        }
        let mut values = Vec::with_capacity(items.len());
        for (nth, item) in items.iter().enumerate() {
            values.push(self.at(nth, |reader| reader.literal(kind, item))?);
        }
        Ok(Operands::Literals(values))
    }

    fn claim(&mut self, kind: Kind, many: bool, json: &Json) -> Result<ClaimOf, Refused> {
        let members = json.as_object();
        let name = match members.and_then(|members| members.get("claim")).and_then(Json::as_str) {
            Some(name) if members.is_some_and(|members| members.len() == 1) => name,
            Some(_) | None => return self.refused(r#"needs a value, or a claim of the caller: {"claim": "account"}"#),
        };
        let fits = |claim: &&ClaimOf| claim.kind == kind && claim.many == many;
        let claims = self.vocabulary.claims;
        match claims.iter().filter(fits).find(|claim| claim.name == name) {
            Some(claim) => Ok(claim.clone()),
            None => {
                let fitting: Vec<&str> = claims.iter().filter(fits).map(|claim| &*claim.name).collect();
                self.refused(format!("names no claim that fits here: there are [{}]", fitting.join(", ")))
            }
        }
    }

    fn literal(&self, kind: Kind, json: &Json) -> Result<Value, Refused> {
        let value = match (kind, json) {
            (Kind::Flag, Json::Bool(flag)) => Some(Value::Flag(*flag)),
            (Kind::Id, Json::String(text)) => Uuid::try_parse(text).ok().map(Value::Id),
            (Kind::At, Json::String(text)) => {
                let at = DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc));
                if at.is_some_and(|at| !YEARS.contains(&at.year())) {
                    return self.refused(format!("lies outside of the years {} to {}", YEARS.start(), YEARS.end()));
                }
                at.map(Value::from)
            }
            (Kind::Whole, Json::Number(number)) => {
                let whole = number.as_i64();
                if whole.is_some_and(|whole| !(-WHOLE_MAX..=WHOLE_MAX).contains(&whole)) {
                    return self.refused(format!("lies outside of -{WHOLE_MAX} to {WHOLE_MAX}"));
                }
                whole.map(Value::Whole)
            }
            (Kind::Text, Json::String(text)) => return self.text(text),
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None if json.is_null() => self.refused("is null: ask with isNull"),
            None => self.refused(format!("needs {}", kind.written())),
        }
    }

    fn text(&self, text: &str) -> Result<Value, Refused> {
        if text.is_empty() {
            return self.refused(format!("is empty: give 1 to {TEXT_CHARS_MAX} characters"));
        }
        let count = text.chars().count();
        if count > TEXT_CHARS_MAX {
            return self.refused(format!("has {count} characters: at most {TEXT_CHARS_MAX} are allowed"));
        }
        // PostgreSQL refuses one of them.
        if text.chars().any(char::is_control) {
            return self.refused("has a control character: take it out");
        }
        Ok(Value::Text(text.to_owned()))
    }
}

fn one_or_all(mut parts: Vec<Condition>) -> Condition {
    match parts.len() {
        1 => parts.remove(0),
        _ => Condition::And(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FIELDS: &[Field] = &[
        Field::new("region", Kind::Text),
        Field::new("value", Kind::Whole),
        Field::new("owner", Kind::Id),
        Field::new("closed", Kind::Flag),
        Field::new("due", Kind::At),
    ];
    const CLAIMS: &[ClaimOf] = &[ClaimOf::one("account", Kind::Id), ClaimOf::many("regions", Kind::Text)];
    const WORDS: Vocabulary<'_> = Vocabulary { fields: FIELDS, claims: CLAIMS };

    fn read(json: Json) -> Result<Condition, String> {
        Condition::parse("condition", &json, WORDS).map_err(|refused| refused.to_string())
    }

    #[test]
    fn members_of_an_object_must_all_hold() {
        let read = read(json!({"region": {"eq": "North"}, "value": {"gte": 1, "lt": 10_000}})).expect("a condition");
        let is = |field: &'static str, test| Condition::Is(field.into(), test);
        let whole = |n: i64| Operand::Literal(n.into());
        let value = Condition::And(vec![is("value", Test::Gte(whole(1))), is("value", Test::Lt(whole(10_000)))]);
        let region = is("region", Test::Eq(Operand::Literal("North".into())));
        assert_eq!(read, Condition::And(vec![region, value]));
    }

    #[test]
    fn a_claim_fits_by_its_kind() {
        assert!(read(json!({"owner": {"eq": {"claim": "account"}}})).is_ok());
        assert!(read(json!({"region": {"in": {"claim": "regions"}}})).is_ok());
        for wrong in [
            json!({"region": {"eq": {"claim": "account"}}}),
            json!({"region": {"eq": {"claim": "regions"}}}),
            json!({"owner": {"in": {"claim": "account"}}}),
            json!({"owner": {"eq": {"claim": "password"}}}),
            json!({"owner": {"eq": {"claim": "account", "or": 1}}}),
            json!({"owner": {"eq": {}}}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_at_its_place() {
        for (json, expected) in [
            (json!([]), "condition is no object"),
            (json!({}), "condition is empty"),
            (json!({"regoin": {"eq": "x"}}), "condition.regoin is no field of this resource: there are region, value"),
            (json!({"region": "North"}), "condition.region needs an object"),
            (json!({"region": {}}), "condition.region needs an object"),
            (json!({"region": {"like": "x"}}), "condition.region.like is no operator"),
            (json!({"region": {"eq": null}}), "condition.region.eq is null"),
            (json!({"region": {"eq": 1}}), "condition.region.eq needs a text"),
            (json!({"region": {"eq": "a\u{0}"}}), "condition.region.eq has a control character"),
            (json!({"region": {"eq": ""}}), "condition.region.eq is empty"),
            (json!({"region": {"in": []}}), "condition.region.in has 0 values"),
            (json!({"region": {"in": ["a", 1]}}), "condition.region.in[1] needs a text"),
            (json!({"value": {"lt": 1.5}}), "condition.value.lt needs a whole number"),
            (json!({"value": {"lt": 9_007_199_254_740_992_i64}}), "condition.value.lt lies outside"),
            (json!({"value": {"lt": "1"}}), "condition.value.lt needs a whole number"),
            (json!({"value": {"startsWith": 1}}), "condition.value.startsWith does not fit"),
            (json!({"closed": {"lt": true}}), "condition.closed.lt does not fit"),
            (json!({"owner": {"gt": "0190f3e0-0000-7000-8000-000000000001"}}), "condition.owner.gt does not fit"),
            (json!({"due": {"lt": "tomorrow"}}), "condition.due.lt needs a moment"),
            (json!({"or": []}), "condition.or needs a list"),
            (json!({"or": [{"region": {"eq": "a"}}, {}]}), "condition.or[1] is empty"),
            (json!({"not": []}), "condition.not is no object"),
        ] {
            let refused = read(json.clone()).expect_err("refused");
            assert!(refused.starts_with(expected), "{json}: {refused}");
        }
        let long = read(json!({"region": {"eq": "x".repeat(TEXT_CHARS_MAX + 1)}})).expect_err("too long");
        assert!(long.contains("301 characters"), "{long}");
        let many: Vec<i64> = (0..=200).collect();
        assert!(read(json!({"value": {"in": many}})).expect_err("too many").contains("has 201 values"));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |levels: usize| (0..levels).fold(json!({"value": {"eq": 1}}), |inner, _| json!({"not": inner}));
        assert!(read(nested(DEPTH_MAX)).is_ok());
        assert!(read(nested(DEPTH_MAX + 1)).expect_err("too deep").contains("levels deep"));
        let wide = |parts: usize| json!({"or": vec![json!({"value": {"eq": 1}}); parts]});
        assert!(read(wide(CONDITIONS_MAX / 2)).is_ok());
        assert!(read(wide(CONDITIONS_MAX / 2 + 1)).expect_err("too many").contains("one comparison too many"));
    }
}
