//! Random conditions, records and callers, from a seed; and how they are written down for an outside judge.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use daybook_domain::condition::{ClaimOf, Claims, Field, Kind, Value, Vocabulary};
use daybook_projections::read::condition::Place;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(crate) const FIELDS: &[Field] = &[
    Field::new("flag", Kind::Flag),
    Field::new("owner", Kind::Id),
    Field::new("text", Kind::Text),
    // Stored by code point, as what lists are sorted by.
    Field::new("key", Kind::Text),
    Field::new("at", Kind::At),
    Field::new("whole", Kind::Whole),
    // Stored in four bytes.
    Field::new("small", Kind::Whole),
];

pub(crate) const CLAIMS: &[ClaimOf] = &[
    ClaimOf::one("flag", Kind::Flag),
    ClaimOf::one("account", Kind::Id),
    ClaimOf::one("region", Kind::Text),
    ClaimOf::one("since", Kind::At),
    ClaimOf::one("limit", Kind::Whole),
    ClaimOf::many("flags", Kind::Flag),
    ClaimOf::many("accounts", Kind::Id),
    ClaimOf::many("regions", Kind::Text),
    ClaimOf::many("moments", Kind::At),
    ClaimOf::many("limits", Kind::Whole),
];

pub(crate) const WORDS: Vocabulary<'_> = Vocabulary { fields: FIELDS, claims: CLAIMS };

pub(crate) const CREATE: &str = r#"create temporary table records (
    id bigint primary key, flag boolean, owner uuid, text text, key text collate "C", at timestamptz, whole bigint,
    small integer)"#;

pub(crate) fn places(field: &str) -> Option<Place> {
    match field {
        "flag" => Some(Place::of("flag")),
        "owner" => Some(Place::of("owner").indexed()),
        "text" => Some(Place::of("text")),
        "key" => Some(Place::of("key")),
        "at" => Some(Place::of("at")),
        "whole" => Some(Place::of("whole")),
        "small" => Some(Place::of("small")),
        _ => None,
    }
}

/// Texts that mean something to SQL, to patterns, to other languages, or to whoever sorts texts.
const TEXTS: [&str; 20] = [
    "a",
    "ab",
    "ab%",
    "ab*",
    "a_b",
    "a\\b",
    "a\"b",
    "abc",
    "B",
    "b",
    "z'; drop table records; --",
    "ä",
    "äb",
    "a\u{308}",
    "\u{d7ff}",
    "\u{e000}",
    "😀",
    "\u{10ffff}",
    "\u{10ffff}x",
    "North",
];

pub(crate) type Record = BTreeMap<&'static str, Value>;

pub(crate) struct Cases {
    rng: StdRng,
}

impl Cases {
    pub(crate) fn new(seed: u64) -> Self {
        Cases { rng: StdRng::seed_from_u64(seed) }
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn value(&mut self, kind: Kind, small: bool) -> Value {
        match kind {
            Kind::Flag => Value::Flag(self.rng.random()),
            Kind::Id => Value::Id(Uuid::from_u128(self.rng.random_range(0..4))),
            Kind::Text => {
                let text = TEXTS[self.below(TEXTS.len())];
                match self.below(8) {
                    0 => Value::Text(format!("{text}{}", TEXTS[self.below(TEXTS.len())])),
                    _ => Value::Text(text.to_owned()),
                }
            }
            Kind::At => {
                let micros = self.rng.random_range(0..6) + if self.below(9) == 0 { -62_000_000_000_000_000 } else { 0 };
                Value::At(DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros))
            }
            Kind::Whole if small => Value::Whole(self.rng.random_range(-3..4)),
            Kind::Whole => match self.below(12) {
                0 => Value::Whole(i64::MAX - self.rng.random_range(0..2)),
                1 => Value::Whole(i64::MIN),
                2 => Value::Whole(9_007_199_254_740_991),
                _ => Value::Whole(self.rng.random_range(-3..4)),
            },
        }
    }

    pub(crate) fn record(&mut self) -> Record {
        let mut record = Record::new();
        for field in FIELDS {
            let name = match &field.name {
                std::borrow::Cow::Borrowed(name) => *name,
                std::borrow::Cow::Owned(_) => continue,
            };
            if self.below(4) > 0 {
                record.insert(name, self.value(field.kind, name == "small"));
            }
        }
        record
    }

    pub(crate) fn claims(&mut self) -> Claims {
        let mut claims = Claims::default();
        for claim in CLAIMS {
            if self.below(4) == 0 {
                continue;
            }
            if claim.many {
                let values = (0..self.below(4)).map(|_| self.value(claim.kind, false)).collect();
                claims = claims.with_many(&claim.name, values);
            } else {
                claims = claims.with(&claim.name, self.value(claim.kind, false));
            }
        }
        claims
    }

    /// A condition as somebody would write it.
    pub(crate) fn condition(&mut self, depth: usize) -> Json {
        match self.below(if depth >= 4 { 4 } else { 8 }) {
            4 => json!({ "not": self.condition(depth + 1) }),
            kind @ (5 | 6) => {
                let parts: Vec<Json> = (0..1 + self.below(3)).map(|_| self.condition(depth + 1)).collect();
                if kind == 5 { json!({ "and": parts }) } else { json!({ "or": parts }) }
            }
            7 => {
                let mut object = self.comparison();
                let other = self.comparison();
                if let (Some(object), Some(other)) = (object.as_object_mut(), other.as_object()) {
                    other.iter().for_each(|(name, tests)| {
                        object.insert(name.clone(), tests.clone());
                    });
                }
                object
            }
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Json {
        let field = &FIELDS[self.below(FIELDS.len())];
        let mut tests = Map::new();
        for _ in 0..1 + self.below(5) / 4 {
            let (operator, operand) = self.test(field.kind);
            tests.insert(operator.to_owned(), operand);
        }
        json!({ &*field.name: tests })
    }

    fn test(&mut self, kind: Kind) -> (&'static str, Json) {
        let operators: &[&'static str] = match kind {
            Kind::Flag | Kind::Id => &["eq", "ne", "in", "notIn", "isNull"],
            Kind::At | Kind::Whole => &["eq", "ne", "in", "notIn", "isNull", "lt", "lte", "gt", "gte"],
            Kind::Text => &["eq", "ne", "in", "notIn", "isNull", "lt", "lte", "gt", "gte", "startsWith", "startsWith"],
        };
        let operator = operators[self.below(operators.len())];
        let operand = match operator {
            "isNull" => json!(self.below(2) == 0),
            "in" | "notIn" if self.below(3) == 0 => self.claim(kind, true),
            "in" | "notIn" => (0..1 + self.below(4)).map(|_| self.literal(kind)).collect(),
            _ if self.below(3) == 0 => self.claim(kind, false),
            _ => self.literal(kind),
        };
        (operator, operand)
    }

    fn claim(&mut self, kind: Kind, many: bool) -> Json {
        let fitting: Vec<&ClaimOf> = CLAIMS.iter().filter(|c| c.kind == kind && c.many == many).collect();
        json!({ "claim": &*fitting[self.below(fitting.len())].name })
    }

    fn literal(&mut self, kind: Kind) -> Json {
        match self.value(kind, true) {
            Value::Flag(flag) => json!(flag),
            Value::Id(id) => json!(id),
            Value::Text(text) => json!(text),
            Value::At(at) => json!(at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            Value::Whole(whole) => json!(whole),
        }
    }
}

/// Whole numbers and microseconds as texts, since JSON's numbers end earlier.
pub(crate) fn written(value: &Value) -> Json {
    match value {
        Value::Flag(flag) => json!(flag),
        Value::Id(id) => json!(id),
        Value::Text(text) => json!(text),
        Value::At(at) => json!(at.timestamp_micros().to_string()),
        Value::Whole(whole) => json!(whole.to_string()),
    }
}

pub(crate) fn written_claims(claims: &Claims) -> Json {
    let mut all = Map::new();
    for claim in CLAIMS {
        if let Some(value) = claims.one(&claim.name) {
            all.insert(claim.name.to_string(), written(value));
        }
        if let Some(values) = claims.many(&claim.name) {
            all.insert(claim.name.to_string(), values.iter().map(written).collect());
        }
    }
    Json::Object(all)
}

/// What the other lines are about: names and kinds.
pub(crate) fn head(seed: u64, cases: usize) -> Json {
    let fields: Map<String, Json> =
        FIELDS.iter().map(|f| (f.name.to_string(), json!(format!("{:?}", f.kind)))).collect();
    let claims: Map<String, Json> =
        CLAIMS.iter().map(|c| (c.name.to_string(), json!(format!("{:?}", c.kind)))).collect();
    json!({ "seed": seed, "cases": cases, "fields": fields, "claims": claims })
}

/// The moment a field of a row is stored as.
pub(crate) fn moment(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::At(at) => Some(*at),
        _ => None,
    }
}
