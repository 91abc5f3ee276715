//! Sessions: begun, gone on with, moved to another tenant, ended.

use super::known::key;
use super::login::own_session;
use super::{Claims, Identity, LoginError, Verified};
use crate::authorize::{Credential, Denied, authorize};
use crate::executor::{Call, ExecuteError, Executed};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use daybook_domain::platform::session::{Ending, Method, SessionError};
use daybook_domain::platform::{Account, AccountCommand, Membership, Session, SessionCommand, membership_id};
use daybook_domain::value::Reason;
use daybook_domain::{AccountId, Action, MembershipId, PLATFORM_TENANT, SessionId, TenantId};
use daybook_store::identity::{Rotation, RotationTerms};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Events of a session that are looked at for its last refresh; those after it are moves to other tenants.
const LAST_EVENTS: u64 = 100;

/// What somebody goes on with.
pub struct Tokens {
    pub account: AccountId,
    pub session: SessionId,
    pub tenant: TenantId,
    /// None in the platform's own tenant.
    pub membership: Option<MembershipId>,
    pub access_token: Zeroizing<String>,
    pub access_expires_at: DateTime<Utc>,
    /// None where the one that the caller has stays good.
    pub refresh_token: Option<Zeroizing<String>>,
    pub session_expires_at: DateTime<Utc>,
}

impl Identity {
    /// Begins a session of an account whose password was right, in a tenant of which it is a member, or in the
    /// platform's if it has a role there.
    ///
    /// # Errors
    /// [`LoginError::NoMember`], the same for a tenant that there is not; [`LoginError::Shut`].
    pub async fn start(&self, verified: Verified, tenant: TenantId, call: Call) -> Result<Tokens, LoginError> {
        let Verified { account, generation, .. } = verified;
        let membership = self.place(account, tenant).await?;
        let (inner, now) = (&self.inner, self.now());
        let session = SessionId(inner.system.uuid_v7());
        let token = inner.refresh_keys.first(session, inner.system.as_ref());
        let expires_at = now + inner.options.session_max;
        inner.secrets.begin(session, token.hash(), now, expires_at).await?;
        let command = SessionCommand::Start {
            account,
            tenant,
            membership,
            method: Method::Password,
            account_generation: generation,
            expires_at,
        };
        self.as_itself::<Session>(account, Some(session), session.0, command, call).await?;
        let claims = Claims { account, tenant, membership, session, expires_at: self.access_until(expires_at) };
        self.tokens(claims, Some(inner.refresh_keys.write(&token)), expires_at)
    }

    /// Exchanges a refresh token for the next one and an access token. Its parent gets the same for a few seconds; any
    /// other that was exchanged before ends the session: it is in the hands of two.
    ///
    /// # Errors
    /// [`LoginError::Ended`], whatever the reason; [`LoginError::Shut`], which ends nothing.
    pub async fn refresh(&self, refresh_token: &str, call: Call) -> Result<Tokens, LoginError> {
        let (inner, now) = (&self.inner, self.now());
        let presented = inner.refresh_keys.read(refresh_token).ok_or(LoginError::Ended)?;
        let session = presented.session;
        inner.pace.count(session, Instant::now()).map_err(LoginError::TooOften)?;
        let known = inner.known.get::<Session>(PLATFORM_TENANT, session.0).await?;
        let account = known.state.account().ok_or(LoginError::Ended)?;
        let next = inner.refresh_keys.successor(&presented);
        let grace_since = now - inner.options.refresh_grace;
        let terms = RotationTerms { now, idle_since: self.idle_since(), grace_since };
        // Before anything is exchanged: what was exchanged could not be had again.
        if self.standing(&known.state).await?.is_none() {
            if matches!(&known.state, Session::Active { expires_at, .. } if now >= *expires_at) {
                self.end(account, session, Ending::Expired, call).await?;
            }
            return Err(LoginError::Ended);
        }
        // It goes on once the tenant is reopened, and with the same token.
        if let Session::Active { tenant, .. } = &known.state
            && let Some(shut) = self.shut(*tenant).await?
        {
            return Err(shut.into());
        }
        let (generation, late) = match inner.secrets.rotate(session, presented.hash(), next.hash(), terms).await? {
            Rotation::Rotated { generation } | Rotation::Again { generation } => (generation, false),
            Rotation::Late { generation } => (generation, true),
            Rotation::Reused => return self.reused(account, session, call).await,
            Rotation::Expired => {
                self.end(account, session, Ending::Expired, call).await?;
                return Err(LoginError::Ended);
            }
            Rotation::Unknown => return Err(LoginError::Ended),
        };
        let command = SessionCommand::Refresh { generation };
        let done = self
            .as_itself::<Session>(account, Some(session), session.0, command, call.clone())
            .await
            .map_err(or_ended)?;
        if late && !self.is_first_told(session, generation, &done, grace_since).await? {
            return self.reused(account, session, call).await;
        }
        let Some(Session::Active { tenant, membership, expires_at, .. }) = done.state else {
            return Err(LoginError::Ended);
        };
        let claims = Claims { account, tenant, membership, session, expires_at: self.access_until(expires_at) };
        self.tokens(claims, Some(inner.refresh_keys.write(&next)), expires_at)
    }

    /// Whether the successor of a refresh token was told to nobody until a moment ago. It is told once the exchange is in
    /// the journal, which may be long after the exchange itself: while the writer is away, nobody gets an answer.
    async fn is_first_told(
        &self,
        session: SessionId,
        generation: u64,
        done: &Executed<Session>,
        since: DateTime<Utc>,
    ) -> Result<bool, LoginError> {
        let (Some(before), Some(version)) = (&done.before, done.version) else { return Ok(false) };
        if matches!(before.state, Session::Active { generation: before, .. } if before < generation) {
            return Ok(true);
        }
        let (journal, key) = (self.inner.executor.journal(), key::<Session>(PLATFORM_TENANT, session.0));
        let events = journal.load(&key, version.saturating_sub(LAST_EVENTS)).await?.events;
        // The last one of its kind is that of the generation that is due.
        let refreshed = events.iter().rev().find(|event| event.event_type == "platform.session.refreshed");
        Ok(refreshed.is_some_and(|event| event.recorded_at >= since))
    }

    /// It is in the hands of two: the session ends for both.
    async fn reused(&self, account: AccountId, session: SessionId, call: Call) -> Result<Tokens, LoginError> {
        tracing::warn!(session.id = %session.0, "a refresh token came that had been exchanged before");
        self.end(account, session, Ending::ReuseDetected, call).await?;
        Err(LoginError::Ended)
    }

    /// Ends the session of a credential.
    ///
    /// # Errors
    /// [`LoginError::Ended`] for a credential that is of no session.
    pub async fn logout(&self, credential: &Credential, call: Call) -> Result<(), LoginError> {
        let (account, session) = own_session(credential)?;
        self.end(account, session, Ending::LoggedOut, call).await
    }

    /// Ends the session of a refresh token, whether or not that was exchanged before.
    ///
    /// # Errors
    /// [`LoginError::Ended`] for one that was not issued here.
    pub async fn logout_with(&self, refresh_token: &str, call: Call) -> Result<(), LoginError> {
        let presented = self.inner.refresh_keys.read(refresh_token).ok_or(LoginError::Ended)?;
        let known = self.inner.known.get::<Session>(PLATFORM_TENANT, presented.session.0).await?;
        let account = known.state.account().ok_or(LoginError::Ended)?;
        self.end(account, presented.session, Ending::LoggedOut, call).await
    }

    /// Moves the session of a credential to another tenant, for a new access token. The one of before is over.
    ///
    /// # Errors
    /// [`LoginError::NoMember`], the same for a tenant that there is not; [`LoginError::Shut`].
    pub async fn switch_tenant(
        &self,
        credential: &Credential,
        tenant: TenantId,
        call: Call,
    ) -> Result<Tokens, LoginError> {
        let (account, session) = own_session(credential)?;
        let membership = self.place(account, tenant).await?;
        let command = SessionCommand::SwitchTenant { tenant, membership };
        let done =
            self.as_itself::<Session>(account, Some(session), session.0, command, call).await.map_err(or_ended)?;
        let Some(Session::Active { expires_at, .. }) = done.state else { return Err(LoginError::Ended) };
        let claims = Claims { account, tenant, membership, session, expires_at: self.access_until(expires_at) };
        self.tokens(claims, None, expires_at)
    }

    /// Ends a session from elsewhere: one's own, or anybody's with the permission `session.end`.
    ///
    /// # Errors
    /// [`LoginError::Denied`], the same for a session of somebody else and for none.
    pub async fn revoke(
        &self,
        credential: &Credential,
        session: SessionId,
        reason: Option<Reason>,
        call: Call,
    ) -> Result<(), LoginError> {
        let known = self.inner.known.get::<Session>(PLATFORM_TENANT, session.0).await?;
        let how = Ending::Revoked { reason };
        match (known.state.account(), own_session(credential)) {
            (Some(account), Ok((own, by))) if account == own => {
                let command = SessionCommand::End { how };
                self.as_itself::<Session>(account, Some(by), session.0, command, call).await?;
            }
            _ => {
                let authorized = authorize(credential, PLATFORM_TENANT, SessionCommand::End { how })?;
                self.inner.executor.execute::<Session>(authorized, session.0, call).await?;
            }
        }
        self.inner.secrets.forget(session).await?;
        Ok(())
    }

    /// Ends every session of an account: one's own, or anybody's with the permission `account.revokeSessions`.
    ///
    /// # Errors
    /// [`LoginError::Denied`], the same for an account that there is not.
    pub async fn revoke_all(
        &self,
        credential: &Credential,
        account: AccountId,
        reason: Reason,
        call: Call,
    ) -> Result<(), LoginError> {
        let own = own_session(credential).ok().filter(|(own, _)| *own == account);
        if own.is_none() && !crate::authorize::may(credential, Action::AccountRevokeSessions, PLATFORM_TENANT) {
            return Err(Denied { action: Action::AccountRevokeSessions }.into());
        }
        let generation = self.account(account).await?.profile().map_or(0, |profile| profile.generation);
        let command = AccountCommand::RevokeSessions { generation: generation.saturating_add(1), reason };
        match own {
            Some((_, session)) => {
                self.as_itself::<Account>(account, Some(session), account.0, command, call).await?;
            }
            None => {
                let authorized = authorize(credential, PLATFORM_TENANT, command)?;
                self.inner.executor.execute::<Account>(authorized, account.0, call).await?;
            }
        }
        Ok(())
    }

    /// A session that was used last before this moment goes on no more.
    pub fn idle_since(&self) -> DateTime<Utc> {
        self.now() - self.inner.options.session_idle
    }

    /// Where an account may be: as which member, or with a role of the platform.
    async fn place(&self, account: AccountId, tenant: TenantId) -> Result<Option<MembershipId>, LoginError> {
        let known = &self.inner.known;
        if tenant == PLATFORM_TENANT {
            let state = self.account(account).await?;
            return match state.profile().is_some_and(|profile| !profile.platform_roles.is_empty()) {
                true => Ok(None),
                false => Err(LoginError::NoMember),
            };
        }
        let member = membership_id(tenant, account);
        let membership = known.get::<Membership>(tenant, member.0).await?;
        match &membership.state {
            Membership::Active { account: of, .. } if *of == account => match self.shut(tenant).await? {
                None => Ok(Some(member)),
                Some(shut) => Err(shut.into()),
            },
            _ => Err(LoginError::NoMember),
        }
    }

    async fn end(&self, account: AccountId, session: SessionId, how: Ending, call: Call) -> Result<(), LoginError> {
        let command = SessionCommand::End { how };
        self.as_itself::<Session>(account, Some(session), session.0, command, call).await?;
        self.inner.secrets.forget(session).await?;
        Ok(())
    }

    /// To the second, as tokens have it.
    fn access_until(&self, session_expires_at: DateTime<Utc>) -> DateTime<Utc> {
        let until = (self.now() + self.inner.options.access_token).min(session_expires_at);
        until.duration_trunc(TimeDelta::seconds(1)).unwrap_or(until)
    }

    fn tokens(
        &self,
        claims: Claims,
        refresh_token: Option<Zeroizing<String>>,
        session_expires_at: DateTime<Utc>,
    ) -> Result<Tokens, LoginError> {
        let access_token = self.inner.access_tokens.issue(&claims, self.now()).ok_or(LoginError::Ended)?;
        Ok(Tokens {
            account: claims.account,
            session: claims.session,
            tenant: claims.tenant,
            membership: claims.membership,
            access_token: Zeroizing::new(access_token),
            access_expires_at: claims.expires_at,
            refresh_token,
            session_expires_at,
        })
    }
}

/// A session that refuses to go on has ended, or goes on elsewhere.
fn or_ended(error: ExecuteError<SessionError>) -> LoginError {
    match error {
        ExecuteError::Refused(_) => LoginError::Ended,
        other => other.into(),
    }
}
