//! Keys of service accounts: issued, rotated, asked about, and when they were used last.

use super::secret::ApiKey;
use super::{Identity, LoginError, Unreadable};
use crate::authorize::{Authorized, Credential, Denied, authorize};
use crate::executor::{Call, ExecuteError, Executed};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::platform::service::Scope;
use daybook_domain::platform::{Service, ServiceCommand};
use daybook_domain::{Action, Actor, ActorKind, ApiKeyId, Role, TenantId};
use daybook_store::database::DatabaseError;
use daybook_store::identity::ApiKeyRow;
use lru::LruCache;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Keys that are remembered.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Uses that wait to be written; more are written with the next of the same key.
const WAITING_MAX: usize = 10_000;
/// How often uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Which key to make.
#[derive(Clone, Debug)]
pub enum KeyRequest {
    Issue {
        scopes: BTreeSet<Scope>,
        expires_at: Option<DateTime<Utc>>,
    },
    /// In the place of another one, which is good for a while longer.
    Rotate {
        old: ApiKeyId,
        overlap: TimeDelta,
        expires_at: Option<DateTime<Utc>>,
    },
}

/// A new key, to be shown once.
pub struct IssuedKey {
    pub id: ApiKeyId,
    pub text: Zeroizing<String>,
    pub executed: Executed<Service>,
}

/// What is remembered of keys: rows, which never change, and uses that are not written yet.
pub(super) struct Uses {
    rows: Mutex<LruCache<ApiKeyId, ApiKeyRow>>,
    waiting: Mutex<HashMap<ApiKeyId, DateTime<Utc>>>,
}

impl Default for Uses {
    fn default() -> Self {
        Uses { rows: Mutex::new(LruCache::new(KEYS_MAX)), waiting: Mutex::default() }
    }
}

impl Uses {
    fn row(&self, key: ApiKeyId) -> Option<ApiKeyRow> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    fn remember(&self, key: ApiKeyId, row: ApiKeyRow) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).put(key, row);
    }

    /// Which key of which service account a text names, if that is known here.
    pub(super) fn key_of(&self, bearer: &str) -> Option<(TenantId, Uuid, ApiKeyId)> {
        let id = ApiKey::read(bearer)?.id;
        let row = self.row(id)?;
        Some((row.tenant, row.service, id))
    }

    fn used(&self, key: ApiKeyId, now: DateTime<Utc>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX || waiting.contains_key(&key) {
            waiting.insert(key, now);
        }
    }

    fn take(&self) -> Vec<(ApiKeyId, DateTime<Utc>)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

impl Identity {
    /// Makes a key of a service account.
    ///
    /// # Errors
    /// [`LoginError::Denied`]; what the account refuses.
    pub async fn make_key(
        &self,
        credential: &Credential,
        tenant: TenantId,
        service: Uuid,
        request: KeyRequest,
        call: Call,
    ) -> Result<IssuedKey, KeyError> {
        let (inner, now) = (&self.inner, self.now());
        if let Some(own) = &credential.scopes {
            // A key makes no key that is good for more than itself. What a key is for never changes, so what is known of the
            // old one is right, however old.
            let wanted: Vec<Scope> = match &request {
                KeyRequest::Issue { scopes, .. } => scopes.iter().cloned().collect(),
                KeyRequest::Rotate { old, .. } => {
                    let known = inner.known.get::<Service>(tenant, service).await.map_err(LoginError::from)?;
                    let old = known.state.keys().find(|(id, _)| *id == *old).map(|(_, key)| key.scopes.clone());
                    old.into_iter().flatten().collect()
                }
            };
            let within = |scope: &Scope| scope.action().is_some_and(|action| own.contains(&action));
            if !wanted.iter().all(within) {
                let action = match request {
                    KeyRequest::Issue { .. } => Action::ServiceIssueKey,
                    KeyRequest::Rotate { .. } => Action::ServiceRotateKey,
                };
                return Err(LoginError::from(Denied { action }).into());
            }
        }
        let key = ApiKey::new(ApiKeyId(inner.system.uuid_v7()), inner.system.as_ref());
        let command = match request {
            KeyRequest::Issue { scopes, expires_at } => ServiceCommand::IssueKey { key: key.id, scopes, expires_at },
            KeyRequest::Rotate { old, overlap, expires_at } => {
                ServiceCommand::RotateKey { old, new: key.id, overlap_until: now + overlap, expires_at }
            }
        };
        let authorized: Authorized<ServiceCommand> =
            authorize(credential, tenant, command).map_err(LoginError::from)?;
        // First the secret, then the event that makes it count.
        let row = ApiKeyRow { tenant, service, hash: key.hash() };
        inner.secrets.put_api_key(key.id, row, now).await.map_err(LoginError::from)?;
        let executed = inner.executor.execute_service(authorized, service, call).await?;
        Ok(IssuedKey { id: key.id, text: key.write(), executed })
    }

    pub(super) async fn of_api_key(&self, bearer: &str) -> Result<Option<Credential>, Unreadable> {
        let (inner, now) = (&self.inner, self.now());
        let Some(key) = ApiKey::read(bearer) else { return Ok(None) };
        let row = match inner.uses.row(key.id) {
            Some(row) => row,
            None => match inner.secrets.api_key(key.id).await.map_err(ExecuteError::Database)? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        if !key.is(&row.hash) {
            return Ok(None);
        }
        inner.uses.remember(key.id, row);
        let service = inner.known.get::<Service>(row.tenant, row.service).await?;
        let Service::Active { roles, keys, .. } = &service.state else { return Ok(None) };
        let Some(known) = keys.get(&key.id).filter(|known| known.is_good(now)) else { return Ok(None) };
        inner.uses.used(key.id, now);
        let actor = Actor { id: row.service, kind: ActorKind::Service };
        let roles = roles.iter().map(|role| Role::from(*role)).collect();
        let scopes = known.scopes.iter().filter_map(Scope::action).collect();
        Ok(Some(Credential::new(actor, row.tenant, roles, None).scoped(scopes)))
    }

    /// When a key ends by the clock, as far as that is known.
    pub(super) async fn key_until(&self, tenant: TenantId, service: Uuid, key: ApiKeyId) -> Option<DateTime<Utc>> {
        let known = self.inner.known.get::<Service>(tenant, service).await.ok()?;
        known.state.keys().find(|(id, _)| *id == key)?.1.expires_at
    }

    /// When keys were used last, to the tenth of a minute or so, on all nodes.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn last_uses(&self, keys: &[ApiKeyId]) -> Result<HashMap<ApiKeyId, DateTime<Utc>>, DatabaseError> {
        Ok(self.inner.secrets.last_uses(keys).await?.into_iter().collect())
    }

    /// Writes uses of keys now and then, and forgets refresh tokens of sessions that are over, until `stopped`.
    pub fn keep(&self, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
        let identity = self.clone();
        tokio::spawn(async move {
            let mut stopping = false;
            while !stopping {
                stopping = tokio::select! {
                    () = tokio::time::sleep(WRITE_EVERY) => false,
                    // An error means that the sender is gone, which is an end as well.
                    _ = stopped.wait_for(|stop| *stop) => true,
                };
                identity.write_uses().await;
                if !stopping && let Err(error) = identity.inner.secrets.purge(identity.now() - TimeDelta::days(1)).await
                {
                    tracing::debug!(%error, "refresh tokens of ended sessions are forgotten later");
                }
            }
        })
    }

    /// Writes what there is; what cannot be written is told by the next use.
    pub async fn write_uses(&self) {
        let uses = self.inner.uses.take();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.inner.secrets.used(&uses).await {
            tracing::warn!(%error, "when keys were used last could not be written");
        }
    }
}

/// Why a key is not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Identity(#[from] LoginError),
    #[error(transparent)]
    Service(#[from] ExecuteError<crate::platform::ServiceRefused>),
}
