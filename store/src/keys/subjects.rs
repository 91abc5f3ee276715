//! Keys of tenants and of data subjects, wrapped in the database, unwrapped in a bounded cache.

use super::files::KeyFiles;
use crate::combine::{Combiner, Question};
use crate::database::{DatabaseError, Pool};
use crate::system::SharedSystem;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use daybook_domain::{PLATFORM_TENANT, SubjectId, TenantId};
use lru::LruCache;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

const CACHED_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "the key of subject {subject} in tenant {tenant} is missing: restore the key tables; this is not an erasure"
    )]
    Missing { tenant: TenantId, subject: SubjectId },
    #[error("the key of subject {0} was erased; its data cannot be written again")]
    Erased(SubjectId),
    #[error("a wrapped key of tenant {0} cannot be opened: root.key is not the one it was made with")]
    WrongRoot(TenantId),
    #[error("the key store cannot be reached")]
    Database(#[from] DatabaseError),
    #[error("the erasure list {path} cannot be written")]
    ErasureList { path: PathBuf, source: std::io::Error },
}

pub(super) type SubjectKey = Zeroizing<[u8; 32]>;
/// `None` is a tombstone.
type Cached = Option<SubjectKey>;

/// Keys of a tenant's subjects, to be looked up together with others.
#[derive(Clone)]
struct Wanted {
    tenant: TenantId,
    subjects: Vec<uuid::Uuid>,
}

/// A subject's key under its tenant's, and that under the root key.
struct Wrapped {
    subject: SubjectId,
    /// `None` is a tombstone.
    wrapped: Option<Vec<u8>>,
    tenant_key: Vec<u8>,
}

impl Question for Wanted {
    /// Of those that have a key, or a tombstone.
    type Answer = Vec<Wrapped>;

    async fn ask(pool: &Pool, questions: &[Self]) -> Result<Vec<Self::Answer>, DatabaseError> {
        let wanted = || {
            (0i32..)
                .zip(questions)
                .flat_map(|(n, question)| question.subjects.iter().map(move |id| (n, question.tenant, id)))
        };
        let numbers: Vec<i32> = wanted().map(|(n, ..)| n).collect();
        let tenants: Vec<uuid::Uuid> = wanted().map(|(_, tenant, _)| tenant.0).collect();
        let subjects: Vec<uuid::Uuid> = wanted().map(|(.., subject)| *subject).collect();
        let rows = pool
            .query(
                "select q.n, s.subject_id, s.wrapped, t.wrapped
                 from (select unnest($1::int[]), unnest($2::uuid[]), unnest($3::uuid[])) q(n, tenant, subject)
                 cross join lateral (select subject_id, wrapped from keys.subject_keys
                                     where tenant_id = q.tenant and subject_id = q.subject limit 1) s
                 cross join lateral (select wrapped from keys.tenant_keys where tenant_id = q.tenant limit 1) t",
                &[&numbers, &tenants, &subjects],
            )
            .await?;
        let mut found: Vec<Self::Answer> = questions.iter().map(|_| Vec::new()).collect();
        for row in rows {
            let place = usize::try_from(row.get::<_, i32>(0)).ok().and_then(|n| found.get_mut(n));
            if let Some(found) = place {
                found.push(Wrapped { subject: SubjectId(row.get(1)), wrapped: row.get(2), tenant_key: row.get(3) });
            }
        }
        Ok(found)
    }
}

pub struct KeyStore {
    pool: Pool,
    look_ups: Combiner<Wanted>,
    files: Arc<KeyFiles>,
    system: SharedSystem,
    cache: Mutex<LruCache<(TenantId, SubjectId), Cached>>,
}

impl KeyStore {
    /// `pool` must be one of the writer role.
    pub fn new(pool: Pool, files: Arc<KeyFiles>, system: SharedSystem) -> Self {
        KeyStore {
            look_ups: Combiner::new(pool.clone()),
            pool,
            files,
            system,
            cache: Mutex::new(LruCache::new(CACHED_MAX)),
        }
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<(TenantId, SubjectId), Cached>> {
        // A panic elsewhere cannot leave the cache half changed.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of these subjects; a tombstone is `None`.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when a key is not there at all.
    pub async fn keys(
        &self,
        tenant: TenantId,
        subjects: &BTreeSet<SubjectId>,
    ) -> Result<HashMap<SubjectId, Option<SubjectKey>>, KeyError> {
        let found = self.find(tenant, subjects).await?;
        match subjects.iter().find(|s| !found.contains_key(s)) {
            Some(subject) => Err(KeyError::Missing { tenant, subject: *subject }),
            None => Ok(found),
        }
    }

    /// The keys of those of these subjects that have one, or a tombstone.
    ///
    /// # Errors
    /// When the key store cannot be reached.
    pub(super) async fn known(
        &self,
        tenant: TenantId,
        subjects: &BTreeSet<SubjectId>,
    ) -> Result<HashMap<SubjectId, Option<SubjectKey>>, KeyError> {
        self.find(tenant, subjects).await
    }

    /// The keys of these subjects for writing; new ones are durable before this returns.
    /// A key whose append then fails is an orphan, which is harmless.
    ///
    /// # Errors
    /// [`KeyError::Erased`]: what was forgotten stays forgotten.
    pub async fn keys_to_write(
        &self,
        tenant: TenantId,
        subjects: &BTreeSet<SubjectId>,
    ) -> Result<HashMap<SubjectId, SubjectKey>, KeyError> {
        let mut found = self.find(tenant, subjects).await?;
        let missing: Vec<SubjectId> = subjects.iter().filter(|s| !found.contains_key(s)).copied().collect();
        if !missing.is_empty() {
            self.create(tenant, &missing).await?;
            found.extend(self.find(tenant, &missing.into_iter().collect()).await?);
        }
        let mut keys = HashMap::new();
        for subject in subjects {
            match found.remove(subject) {
                Some(Some(key)) => keys.insert(*subject, key),
                Some(None) => return Err(KeyError::Erased(*subject)),
                None => return Err(KeyError::Missing { tenant, subject: *subject }),
            };
        }
        Ok(keys)
    }

    async fn find(
        &self,
        tenant: TenantId,
        subjects: &BTreeSet<SubjectId>,
    ) -> Result<HashMap<SubjectId, Cached>, KeyError> {
        let mut found = HashMap::new();
        {
            let mut cache = self.cache();
            for subject in subjects {
                if let Some(key) = cache.get(&(tenant, *subject)) {
                    found.insert(*subject, key.clone());
                }
            }
        }
        let unknown: Vec<uuid::Uuid> = subjects.iter().filter(|s| !found.contains_key(s)).map(|s| s.0).collect();
        if unknown.is_empty() {
            return Ok(found);
        }
        for Wrapped { subject, wrapped, tenant_key } in self.look_ups.ask(Wanted { tenant, subjects: unknown }).await? {
            let key = match wrapped {
                None => None,
                Some(wrapped) => {
                    let tenant_key = unwrap(self.files.root(), &tenant_key, tenant.0.as_bytes())
                        .ok_or(KeyError::WrongRoot(tenant))?;
                    Some(
                        unwrap(&tenant_key, &wrapped, &subject_aad(tenant, subject))
                            .ok_or(KeyError::WrongRoot(tenant))?,
                    )
                }
            };
            let mut cache = self.cache();
            // Erased while this was on its way: what was forgotten stays forgotten.
            let key = key.filter(|_| !matches!(cache.peek(&(tenant, subject)), Some(None)));
            cache.put((tenant, subject), key.clone());
            found.insert(subject, key);
        }
        Ok(found)
    }

    async fn create(&self, tenant: TenantId, subjects: &[SubjectId]) -> Result<(), KeyError> {
        let now = self.system.utc();
        let wrapped = self.wrap(self.files.root(), &self.fresh(), tenant.0.as_bytes());
        let row = self
            .pool
            .query(
                "with made as (insert into keys.tenant_keys (tenant_id, wrapped, created_at) values ($1, $2, $3)
                               on conflict do nothing returning wrapped)
                 select wrapped from made union all select wrapped from keys.tenant_keys where tenant_id = $1 limit 1",
                &[&tenant.0, &wrapped, &now],
            )
            .await?;
        // Empty only when another call inserted it between our snapshot and our insert.
        let wrapped: Vec<u8> = match row.first() {
            Some(row) => row.get(0),
            None => {
                let rows =
                    self.pool.query("select wrapped from keys.tenant_keys where tenant_id = $1", &[&tenant.0]).await?;
                rows.first().map(|r| r.get(0)).ok_or(KeyError::WrongRoot(tenant))?
            }
        };
        let tenant_key = unwrap(self.files.root(), &wrapped, tenant.0.as_bytes()).ok_or(KeyError::WrongRoot(tenant))?;
        let ids: Vec<uuid::Uuid> = subjects.iter().map(|s| s.0).collect();
        let keys: Vec<Vec<u8>> =
            subjects.iter().map(|s| self.wrap(&tenant_key, &self.fresh(), &subject_aad(tenant, *s))).collect();
        self.pool
            .query(
                "insert into keys.subject_keys (tenant_id, subject_id, wrapped, created_at)
                 select $1, i, w, $4 from unnest($2::uuid[], $3::bytea[]) u(i, w) on conflict do nothing",
                &[&tenant.0, &ids, &keys, &now],
            )
            .await?;
        Ok(())
    }

    /// Destroys the key of a subject: what was sealed under it is gone, here and in every copy of
    /// the journal. Of a person with an account, password and refresh tokens go as well. The subject is also written to
    /// the erasure list outside the database, so that a restored dump can be told again.
    ///
    /// # Errors
    /// When the list or the database cannot be written; then nothing is claimed to be erased.
    pub async fn erase(&self, tenant: TenantId, subject: SubjectId) -> Result<(), KeyError> {
        let path = self.files.directory().join("erased.list");
        let io = |source| KeyError::ErasureList { path: path.clone(), source };
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(&path).map_err(io)?;
        writeln!(list, "{tenant} {subject}").and_then(|()| list.sync_all()).map_err(io)?;
        self.tombstone(tenant, subject).await
    }

    /// Applies the erasure list: after a restore, the dump may still hold keys destroyed since.
    ///
    /// # Errors
    /// As [`KeyStore::erase`].
    pub async fn apply_erasure_list(&self) -> Result<usize, KeyError> {
        let path = self.files.directory().join("erased.list");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(KeyError::ErasureList { path, source }),
        };
        let mut applied = 0;
        for line in text.lines() {
            if let Some((tenant, subject)) = line.split_once(' ')
                && let (Ok(tenant), Ok(subject)) = (tenant.parse(), subject.parse())
            {
                self.tombstone(tenant, subject).await?;
                applied += 1;
            }
        }
        Ok(applied)
    }

    async fn tombstone(&self, tenant: TenantId, subject: SubjectId) -> Result<(), KeyError> {
        self.pool
            .query(
                "update keys.subject_keys set wrapped = null, erased_at = $3
                 where tenant_id = $1 and subject_id = $2 and wrapped is not null",
                &[&tenant.0, &subject.0, &self.system.utc()],
            )
            .await?;
        // What was sealed in a snapshot is gone with the key; the rest of it would be another state than the events'.
        self.pool
            .query(
                "delete from journal.snapshots where tenant_id = $1 and $2 = any(subjects)",
                &[&tenant.0, &subject.0],
            )
            .await?;
        if tenant == PLATFORM_TENANT {
            self.pool.query("delete from identity.passwords where account_id = $1", &[&subject.0]).await?;
            // Whose a session is stands in its first event; there are as many rows as sessions that are open.
            self.pool
                .query(
                    "delete from identity.refresh_tokens r using journal.stream_events s, journal.events e
                     where s.tenant_id = $1 and s.stream_type = 'session' and s.stream_id = r.session_id
                       and s.sequence = 1 and e.position = s.position and e.payload::jsonb ->> 'account' = $2",
                    &[&tenant.0, &subject.0.to_string()],
                )
                .await?;
        }
        self.cache().put((tenant, subject), None);
        Ok(())
    }

    fn fresh(&self) -> SubjectKey {
        let mut key = Zeroizing::new([0u8; 32]);
        self.system.random(key.as_mut());
        key
    }

    fn wrap(&self, outer: &[u8; 32], key: &SubjectKey, aad: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; 12];
        self.system.random(&mut nonce);
        seal(outer, &nonce, key.as_ref(), aad)
    }
}

fn subject_aad(tenant: TenantId, subject: SubjectId) -> [u8; 32] {
    let mut aad = [0u8; 32];
    aad[..16].copy_from_slice(tenant.0.as_bytes());
    aad[16..].copy_from_slice(subject.0.as_bytes());
    aad
}

fn unwrap(outer: &[u8; 32], wrapped: &[u8], aad: &[u8]) -> Option<SubjectKey> {
    let plain = Zeroizing::new(open(outer, wrapped, aad)?);
    plain.as_slice().try_into().ok().map(Zeroizing::new)
}

/// ChaCha20-Poly1305: nonce (12 bytes) + ciphertext + tag (16 bytes). A nonce is never used twice
/// for two texts under one key.
pub fn seal(key: &[u8; 32], nonce: &[u8; 12], plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let sealed = ChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&Nonce::from(*nonce), Payload { msg: plain, aad })
        .expect("the cipher takes up to 256 GiB");
    [nonce.as_slice(), &sealed].concat()
}

/// `None` when key, bytes or authenticated data are not those it was sealed with.
pub fn open(key: &[u8; 32], sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let (nonce, cipher) = sealed.split_first_chunk::<12>()?;
    ChaCha20Poly1305::new(&Key::from(*key)).decrypt(&Nonce::from(*nonce), Payload { msg: cipher, aad }).ok()
}
