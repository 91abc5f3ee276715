//! The secrets that let people and machines in, hashed, in tables of their own.
//!
//! What is written here counts only once an event names it, so a row is written first and an event second. Refuses to
//! hold a secret itself, and to say who may come in: that is the application's, by the journal.

use crate::database::{DatabaseError, Pool};
use chrono::{DateTime, Utc};
use daybook_domain::{AccountId, ApiKeyId, CredentialId, SessionId, TenantId};
use tokio_postgres::Row;
use uuid::Uuid;

/// The SHA-256 of a secret of 256 random bits.
pub type SecretHash = [u8; 32];

/// The tables; cloning is cheap.
#[derive(Clone)]
pub struct Secrets {
    pool: Pool,
}

/// What came of presenting a refresh token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// It was the one that is due, and the next one has taken its place.
    Rotated { generation: u64 },
    /// It is the parent of the one that is due, exchanged a moment ago.
    Again { generation: u64 },
    /// It is the parent of the one that is due, exchanged longer ago.
    Late { generation: u64 },
    /// It was the one that is due, too late.
    Expired,
    /// It was exchanged before.
    Reused,
    /// There is no such session here.
    Unknown,
}

/// Until when what counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotationTerms {
    pub now: DateTime<Utc>,
    /// A token that was issued before has been idle for too long.
    pub idle_since: DateTime<Utc>,
    /// A parent that was exchanged before is late.
    pub grace_since: DateTime<Utc>,
}

/// A key of a service account, as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiKeyRow {
    pub tenant: TenantId,
    pub service: Uuid,
    pub hash: SecretHash,
}

impl Secrets {
    /// `pool` must be one of the writer role.
    pub fn new(pool: Pool) -> Self {
        Secrets { pool }
    }

    /// One that is there already stays: a repeat changes nothing.
    ///
    /// # Errors
    /// When it cannot be written; then nothing was.
    pub async fn put_password(
        &self,
        account: AccountId,
        credential: CredentialId,
        hash: &str,
        now: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        let sql = "insert into identity.passwords (account_id, credential_id, hash, created_at) values ($1, $2, $3, $4)
                   on conflict do nothing";
        self.pool.query(sql, &[&account.0, &credential.0, &hash, &now]).await?;
        Ok(())
    }

    /// # Errors
    /// When the database cannot be asked.
    pub async fn password(
        &self,
        account: AccountId,
        credential: CredentialId,
    ) -> Result<Option<String>, DatabaseError> {
        let sql = "select hash from identity.passwords where account_id = $1 and credential_id = $2";
        Ok(self.pool.query(sql, &[&account.0, &credential.0]).await?.first().map(|row| row.get(0)))
    }

    /// Puts another hash of the same password in the place of one, unless that has been replaced meanwhile.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn rehash(
        &self,
        account: AccountId,
        credential: CredentialId,
        old: &str,
        new: &str,
    ) -> Result<(), DatabaseError> {
        let sql = "update identity.passwords set hash = $4
                   where account_id = $1 and credential_id = $2 and hash = $3";
        self.pool.query(sql, &[&account.0, &credential.0, &old, &new]).await?;
        Ok(())
    }

    /// Forgets one that no event names any more, or never will. No other: its event may be still to come.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn forget_password(&self, account: AccountId, credential: CredentialId) -> Result<(), DatabaseError> {
        let sql = "delete from identity.passwords where account_id = $1 and credential_id = $2";
        self.pool.query(sql, &[&account.0, &credential.0]).await?;
        Ok(())
    }

    /// The first refresh token of a session.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn begin(
        &self,
        session: SessionId,
        hash: SecretHash,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        let sql = "insert into identity.refresh_tokens (session_id, generation, current_hash, rotated_at, expires_at)
                   values ($1, 0, $2, $3, $4)";
        self.pool.query(sql, &[&session.0, &hash.as_slice(), &now, &expires_at]).await?;
        Ok(())
    }

    /// Exchanges a refresh token for the next one, once.
    ///
    /// # Errors
    /// When the database cannot be asked; the same may be tried again.
    pub async fn rotate(
        &self,
        session: SessionId,
        presented: SecretHash,
        next: SecretHash,
        terms: RotationTerms,
    ) -> Result<Rotation, DatabaseError> {
        let RotationTerms { now, idle_since, grace_since } = terms;
        let exchange = "update identity.refresh_tokens
             set generation = generation + 1, parent_hash = current_hash, current_hash = $3, rotated_at = $4
             where session_id = $1 and current_hash = $2 and expires_at > $4 and rotated_at > $5
             returning generation";
        let (presented, next) = (presented.as_slice(), next.as_slice());
        let done = self.pool.query(exchange, &[&session.0, &presented, &next, &now, &idle_since]).await?;
        if let Some(row) = done.first() {
            return Ok(Rotation::Rotated { generation: generation(row) });
        }
        let look = "select generation, current_hash = $2, parent_hash is not distinct from $2 and current_hash = $3,
                           rotated_at >= $4
                    from identity.refresh_tokens where session_id = $1";
        let found = self.pool.query(look, &[&session.0, &presented, &next, &grace_since]).await?;
        let Some(row) = found.first() else { return Ok(Rotation::Unknown) };
        Ok(match (row.get(1), row.get(2), row.get(3)) {
            (true, _, _) => Rotation::Expired,
            (false, true, true) => Rotation::Again { generation: generation(row) },
            (false, true, false) => Rotation::Late { generation: generation(row) },
            (false, false, _) => Rotation::Reused,
        })
    }

    /// Forgets the refresh token of a session that has ended.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn forget(&self, session: SessionId) -> Result<(), DatabaseError> {
        self.pool.query("delete from identity.refresh_tokens where session_id = $1", &[&session.0]).await?;
        Ok(())
    }

    /// Forgets those of sessions that are over, a bounded number at a time; says how many.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn purge(&self, before: DateTime<Utc>) -> Result<usize, DatabaseError> {
        let sql = "delete from identity.refresh_tokens where session_id in (
                       select session_id from identity.refresh_tokens where expires_at < $1 order by expires_at limit 1000)
                   returning 1";
        Ok(self.pool.query(sql, &[&before]).await?.len())
    }

    /// # Errors
    /// When it cannot be written.
    pub async fn put_api_key(&self, key: ApiKeyId, row: ApiKeyRow, now: DateTime<Utc>) -> Result<(), DatabaseError> {
        let sql = "insert into identity.api_keys (key_id, tenant_id, service_id, hash, created_at)
                   values ($1, $2, $3, $4, $5) on conflict do nothing";
        self.pool.query(sql, &[&key.0, &row.tenant.0, &row.service, &row.hash.as_slice(), &now]).await?;
        Ok(())
    }

    /// # Errors
    /// When the database cannot be asked.
    pub async fn api_key(&self, key: ApiKeyId) -> Result<Option<ApiKeyRow>, DatabaseError> {
        let sql = "select tenant_id, service_id, hash from identity.api_keys where key_id = $1";
        let rows = self.pool.query(sql, &[&key.0]).await?;
        Ok(rows.first().and_then(|row| {
            let hash = row.get::<_, &[u8]>(2).try_into().ok()?;
            Some(ApiKeyRow { tenant: TenantId(row.get(0)), service: row.get(1), hash })
        }))
    }

    /// When keys were used last, later than what is known already.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn used(&self, uses: &[(ApiKeyId, DateTime<Utc>)]) -> Result<(), DatabaseError> {
        let keys: Vec<Uuid> = uses.iter().map(|(key, _)| key.0).collect();
        let times: Vec<DateTime<Utc>> = uses.iter().map(|(_, at)| *at).collect();
        let sql =
            "update identity.api_keys k set last_used_at = u.at from unnest($1::uuid[], $2::timestamptz[]) u(id, at)
                   where k.key_id = u.id and (k.last_used_at is null or k.last_used_at < u.at)";
        self.pool.query(sql, &[&keys, &times]).await?;
        Ok(())
    }

    /// When these keys were used last, in no order; those left out that never were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn last_uses(&self, keys: &[ApiKeyId]) -> Result<Vec<(ApiKeyId, DateTime<Utc>)>, DatabaseError> {
        let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let sql = "select key_id, last_used_at from identity.api_keys
                   where key_id = any($1) and last_used_at is not null";
        let rows = self.pool.query(sql, &[&keys]).await?;
        Ok(rows.iter().map(|row| (ApiKeyId(row.get(0)), row.get(1))).collect())
    }
}

fn generation(row: &Row) -> u64 {
    u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()
}
