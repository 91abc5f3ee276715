//! Personal fields inside JSON: `{"$subject": id, "value": …}` becomes `{"$subject": id, "sealed": …}`
//! before anything is hashed, and back, or `{"$subject": id, "erased": true}`, when it is read.

use super::subjects::{KeyError, KeyStore, SubjectKey, open, seal};
use crate::system::SharedSystem;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use daybook_domain::{SubjectId, TenantId};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

const SUBJECT: &str = "$subject";

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("no key for a personal field")]
    Key(#[from] KeyError),
    #[error("a personal field of event {event} is damaged at {path}")]
    Damaged { event: Uuid, path: String },
    #[error("the JSON of event {event} cannot be read")]
    Json { event: Uuid, source: serde_json::Error },
}

/// Seals and opens the personal fields of events.
#[derive(Clone)]
pub struct Sealer {
    keys: Arc<KeyStore>,
    system: SharedSystem,
}

impl Sealer {
    pub fn new(keys: Arc<KeyStore>, system: SharedSystem) -> Self {
        Sealer { keys, system }
    }

    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Seals every personal field; JSON without any is returned as it came.
    ///
    /// # Errors
    /// When a key cannot be had, or belongs to a person who was erased.
    pub async fn seal(&self, tenant: TenantId, event: Uuid, json: String) -> Result<String, SealError> {
        if !json.contains(SUBJECT) {
            return Ok(json);
        }
        let mut value: Value = serde_json::from_str(&json).map_err(|source| SealError::Json { event, source })?;
        let subjects = subjects(&value, "value");
        if subjects.is_empty() {
            return Ok(json);
        }
        let keys = self.keys.keys_to_write(tenant, &subjects).await?;
        walk(&mut value, &mut String::new(), &mut |field, path| {
            let (Some(subject), Some(plain)) = (subject(field), field.get("value")) else { return Ok(()) };
            let key = keys.get(&subject).ok_or(SealError::Key(KeyError::Missing { tenant, subject }))?;
            let mut nonce = [0u8; 12];
            self.system.random(&mut nonce);
            let plain = serde_json::to_vec(plain).map_err(|source| SealError::Json { event, source })?;
            let sealed = URL_SAFE_NO_PAD.encode(seal(key, &nonce, &plain, &aad(tenant, event, path)));
            *field = serde_json::json!({ SUBJECT: subject, "sealed": sealed });
            Ok(())
        })?;
        serde_json::to_string(&value).map_err(|source| SealError::Json { event, source })
    }

    /// The persons whose data is sealed in a JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn subjects(json: &str) -> Result<Vec<Uuid>, serde_json::Error> {
        if !json.contains(SUBJECT) {
            return Ok(Vec::new());
        }
        Ok(subjects(&serde_json::from_str(json)?, "sealed").into_iter().map(|subject| subject.0).collect())
    }

    /// Opens every sealed field; those of an erased person say so.
    ///
    /// # Errors
    /// A missing key or a damaged field is a fault, never shown as an erasure.
    pub async fn open<'a>(&self, tenant: TenantId, event: Uuid, json: &'a str) -> Result<Cow<'a, str>, SealError> {
        if !json.contains(SUBJECT) {
            return Ok(Cow::Borrowed(json));
        }
        let value: Value = serde_json::from_str(json).map_err(|source| SealError::Json { event, source })?;
        let subjects = subjects(&value, "sealed");
        if subjects.is_empty() {
            return Ok(Cow::Borrowed(json));
        }
        let keys = self.keys.keys(tenant, &subjects).await?;
        open_fields(tenant, event, value, &keys).map(Cow::Owned)
    }

    /// As [`Sealer::open`], for many texts of a tenant with one look-up of keys. One that does not open keeps none of
    /// the others from opening.
    ///
    /// # Errors
    /// When the keys cannot be looked up at all.
    pub async fn open_all(
        &self,
        tenant: TenantId,
        texts: &[(Uuid, &str)],
    ) -> Result<Vec<Result<String, SealError>>, KeyError> {
        let mut wanted = BTreeSet::new();
        let mut parsed = Vec::with_capacity(texts.len());
        for (event, json) in texts {
            if !json.contains(SUBJECT) {
                parsed.push(None);
                continue;
            }
            let value: Result<Value, _> = serde_json::from_str(json);
            let sealed = value.as_ref().map(|value| subjects(value, "sealed")).unwrap_or_default();
            parsed.push(Some((value.map_err(|source| SealError::Json { event: *event, source }), sealed.is_empty())));
            wanted.extend(sealed);
        }
        let keys = if wanted.is_empty() { HashMap::new() } else { self.keys.known(tenant, &wanted).await? };
        let opened = texts.iter().zip(parsed).map(|((event, json), parsed)| match parsed {
            None | Some((Ok(_), true)) => Ok((*json).to_owned()),
            Some((value, _)) => open_fields(tenant, *event, value?, &keys),
        });
        Ok(opened.collect())
    }
}

fn open_fields(
    tenant: TenantId,
    event: Uuid,
    mut value: Value,
    keys: &HashMap<SubjectId, Option<SubjectKey>>,
) -> Result<String, SealError> {
    walk(&mut value, &mut String::new(), &mut |field, path| {
        let (Some(subject), Some(sealed)) = (subject(field), field.get("sealed").and_then(Value::as_str)) else {
            return Ok(());
        };
        let damaged = || SealError::Damaged { event, path: path.to_owned() };
        *field = match keys.get(&subject).ok_or(SealError::Key(KeyError::Missing { tenant, subject }))? {
            None => serde_json::json!({ SUBJECT: subject, "erased": true }),
            Some(key) => {
                let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| damaged())?;
                let plain = open(key, &sealed, &aad(tenant, event, path)).ok_or_else(damaged)?;
                let plain: Value = serde_json::from_slice(&plain).map_err(|_| damaged())?;
                serde_json::json!({ SUBJECT: subject, "value": plain })
            }
        };
        Ok(())
    })?;
    serde_json::to_string(&value).map_err(|source| SealError::Json { event, source })
}

/// Tenant, event and field: a sealed field moved anywhere else does not open.
fn aad(tenant: TenantId, event: Uuid, path: &str) -> Vec<u8> {
    [tenant.0.as_bytes().as_slice(), event.as_bytes(), path.as_bytes()].concat()
}

fn subject(field: &Value) -> Option<SubjectId> {
    field.get(SUBJECT)?.as_str()?.parse().ok()
}

/// The subjects of the fields that have this member.
fn subjects(value: &Value, member: &str) -> BTreeSet<SubjectId> {
    fn collect(value: &Value, member: &str, found: &mut BTreeSet<SubjectId>) {
        match value {
            Value::Object(map) if map.contains_key(SUBJECT) => {
                found.extend(map.get(member).and_then(|_| subject(value)));
            }
            Value::Object(map) => map.values().for_each(|v| collect(v, member, found)),
            Value::Array(items) => items.iter().for_each(|v| collect(v, member, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(value, member, &mut found);
    found
}

/// Visits every personal field with its JSON pointer.
fn walk(
    value: &mut Value,
    path: &mut String,
    visit: &mut impl FnMut(&mut Value, &str) -> Result<(), SealError>,
) -> Result<(), SealError> {
    if value.get(SUBJECT).is_some() {
        return visit(value, path);
    }
    let length = path.len();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                walk(value, path, visit)?;
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                path.push('/');
                path.push_str(&index.to_string());
                walk(value, path, visit)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}
