//! Who comes in, and how: passwords, sessions and their tokens, keys of service accounts.
//!
//! Everything that somebody does to get in or out is a command on an aggregate; the secrets themselves are in tables of
//! their own. Refuses to tell why somebody is not let in: whoever guesses learns nothing. Refuses to let in on anything
//! but what the journal says: a session, an account, a membership that has ended counts as such from the moment at which
//! this node has heard of it.

mod access_token;
mod api_keys;
pub mod heard;
mod known;
mod login;
mod pace;
pub mod passwords;
mod profile;
mod secret;
mod sessions;
mod shut;
mod throttle;

pub use access_token::{AUDIENCE, Claims, LIFETIME_MAX, TokenError};
pub use api_keys::{IssuedKey, KeyError, KeyRequest};
pub use known::Unreadable;
pub use login::{LoginError, Verified};
pub use pace::RefreshPace;
pub use profile::ProfileChange;
pub use secret::API_KEY_PREFIX;
pub use sessions::Tokens;
pub use shut::Shut;
pub use throttle::{Limit, ThrottleOptions};

use crate::authorize::{Authorized, Credential};
use crate::executor::{Call, ExecuteError, Executed, Executor};
use access_token::AccessTokens;
use api_keys::Uses;
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::platform::{Account, Membership, Service, Session};
use daybook_domain::{AccountId, Action, Actor, ActorKind, EventSourced, Guarded, PLATFORM_TENANT, Role, SessionId};
use daybook_store::access::AccessLog;
use daybook_store::identity::Secrets;
use daybook_store::schema::Identity as Journal;
use daybook_store::system::SharedSystem;
use heard::Heard;
use known::Known;
use pace::Pace;
use passwords::{HashError, HashOptions, Hashed, Passwords};
use secret::RefreshKeys;
use serde::Serialize;
use std::sync::Arc;
use throttle::Throttle;
use tokio::sync::watch;
use uuid::Uuid;

/// What can be tuned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentityOptions {
    pub hash: HashOptions,
    pub throttle: ThrottleOptions,
    /// How long an access token is good; at most five minutes.
    pub access_token: TimeDelta,
    /// How long a session may stay unused.
    pub session_idle: TimeDelta,
    /// How long it may last.
    pub session_max: TimeDelta,
    /// How long the parent of a refresh token still gets the same one.
    pub refresh_grace: TimeDelta,
    pub refresh_pace: RefreshPace,
    /// Raise it, on every node, to sign access tokens with other keys at once.
    pub signing_generation: u32,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        IdentityOptions {
            hash: HashOptions::default(),
            throttle: ThrottleOptions::default(),
            access_token: LIFETIME_MAX,
            session_idle: TimeDelta::hours(12),
            session_max: TimeDelta::days(7),
            refresh_grace: TimeDelta::seconds(20),
            refresh_pace: RefreshPace::default(),
            signing_generation: 1,
        }
    }
}

/// What it works with.
pub struct IdentityParts {
    /// One that is heard by the same `heard`.
    pub executor: Executor,
    pub heard: Arc<Heard>,
    pub secrets: Secrets,
    pub access: AccessLog,
    pub journal: Journal,
    pub options: IdentityOptions,
}

/// Lets people and machines in and out. Cloning is cheap.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    executor: Executor,
    known: Known,
    secrets: Secrets,
    access: AccessLog,
    system: SharedSystem,
    options: IdentityOptions,
    passwords: Passwords,
    throttle: Throttle,
    pace: Pace,
    access_tokens: AccessTokens,
    refresh_keys: RefreshKeys,
    uses: Uses,
}

impl Identity {
    /// # Errors
    /// When the parameters of the password hash are out of range.
    pub fn new(parts: IdentityParts) -> Result<Self, HashError> {
        let IdentityParts { executor, heard, secrets, access, journal, options } = parts;
        let system = executor.system.clone();
        let files = executor.files.clone();
        let derive = move |purpose: &str| files.derive(purpose);
        let refresh_keys = RefreshKeys::new(&derive);
        // A restored copy is another issuer: what the original signs since is nothing to it.
        let issuer = format!("urn:daybook:{}:{}", journal.journal_id, journal.incarnation_id);
        let access_tokens = AccessTokens::new(Arc::new(derive), issuer, options.signing_generation, system.utc());
        let inner = Inner {
            known: Known::new(executor.clone(), heard),
            passwords: Passwords::new(options.hash, system.clone())?,
            throttle: Throttle::new(options.throttle),
            pace: Pace::new(options.refresh_pace),
            uses: Uses::default(),
            executor,
            secrets,
            access,
            system,
            options,
            access_tokens,
            refresh_keys,
        };
        Ok(Identity { inner: Arc::new(inner) })
    }

    /// The public keys of access tokens, as a JWK Set.
    pub fn jwks(&self) -> serde_json::Value {
        self.inner.access_tokens.jwks(self.inner.system.utc())
    }

    /// Who issues access tokens.
    pub fn issuer(&self) -> &str {
        self.inner.access_tokens.issuer()
    }

    /// Who is behind a token, at this moment: an access token or an API key. `None` when it lets nobody in.
    ///
    /// # Errors
    /// When that cannot be told at the moment.
    pub async fn credential(&self, bearer: &str) -> Result<Option<Credential>, Unreadable> {
        match Kind::of(bearer) {
            Kind::ApiKey => self.of_api_key(bearer).await,
            Kind::AccessToken => match self.claims(bearer) {
                Some(claims) => self.of_claims(&claims).await,
                None => Ok(None),
            },
            Kind::Other => Ok(None),
        }
    }

    /// Resolves when something about who is behind a token has changed since this call, or the token's time is up: then
    /// it is to be asked about again.
    pub fn stirred(&self, bearer: &str) -> impl Future<Output = ()> + Send + 'static {
        let mut waiting: Vec<watch::Receiver<u64>> = Vec::new();
        let (mut until, mut key) = (None, None);
        let known = &self.inner.known;
        match Kind::of(bearer) {
            Kind::AccessToken => {
                if let Some(claims) = self.claims(bearer) {
                    waiting.push(known.listen::<Session>(PLATFORM_TENANT, claims.session.0));
                    waiting.push(known.listen::<Account>(PLATFORM_TENANT, claims.account.0));
                    let member = claims.membership.map(|member| known.listen::<Membership>(claims.tenant, member.0));
                    waiting.extend(member);
                    waiting.extend(self.listen_to_tenant(claims.tenant));
                    until = Some(claims.expires_at);
                }
            }
            Kind::ApiKey => match self.inner.uses.key_of(bearer) {
                Some((tenant, service, id)) => {
                    waiting.push(known.listen::<Service>(tenant, service));
                    waiting.extend(self.listen_to_tenant(tenant));
                    key = Some((tenant, service, id));
                }
                // Known once it has been asked about: to be asked about at once, then.
                None => until = Some(self.now()),
            },
            Kind::Other => {}
        }
        let identity = self.clone();
        async move {
            if let Some((tenant, service, id)) = key {
                until = identity.key_until(tenant, service, id).await;
            }
            let left = until.map(|until| (until - identity.now()).to_std().unwrap_or_default());
            let over = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            let moved: Vec<_> = waiting.iter_mut().map(|stream| Box::pin(stream.changed())).collect();
            let moves = async {
                if moved.is_empty() {
                    std::future::pending::<()>().await;
                }
                // An error: nobody tells any more, and asking again does no harm.
                let _ = futures_util::future::select_all(moved).await;
            };
            tokio::select! {
                () = over => {}
                () = moves => {}
            }
        }
    }

    /// The hashing of passwords that this node has done so far: by it can be told that all logins cost the same.
    pub fn hashed(&self) -> Hashed {
        self.inner.passwords.hashed()
    }

    /// How often this node has read a session, an account, a membership or a service account, for not having it in memory.
    pub fn reads(&self) -> u64 {
        self.inner.known.reads()
    }

    fn claims(&self, bearer: &str) -> Option<Claims> {
        match self.inner.access_tokens.read(bearer, self.inner.system.utc()) {
            Ok(claims) => Some(claims),
            Err(reason) => {
                tracing::debug!(%reason, "an access token is refused");
                None
            }
        }
    }

    async fn of_claims(&self, claims: &Claims) -> Result<Option<Credential>, Unreadable> {
        let session = self.inner.known.get::<Session>(PLATFORM_TENANT, claims.session.0).await?;
        let Session::Active { account, tenant, membership, .. } = session.state else { return Ok(None) };
        // A token of the tenant that the session was in before is over with it.
        if (account, tenant, membership) != (claims.account, claims.tenant, claims.membership) {
            return Ok(None);
        }
        let Some(standing) = self.standing(&session.state).await? else { return Ok(None) };
        let actor = Actor { id: account.0, kind: ActorKind::Account };
        Ok(Some(Credential::new(actor, tenant, standing.roles, Some(claims.session.0))))
    }

    /// What a session amounts to, if it may go on: its account, its membership and the clock are asked.
    async fn standing(&self, session: &Session) -> Result<Option<Standing>, Unreadable> {
        let Session::Active { account, tenant, membership, account_generation, expires_at, .. } = session else {
            return Ok(None);
        };
        if self.inner.system.utc() >= *expires_at {
            return Ok(None);
        }
        let known = self.inner.known.get::<Account>(PLATFORM_TENANT, account.0).await?;
        let Account::Active { profile } = &known.state else { return Ok(None) };
        if profile.generation != *account_generation {
            return Ok(None);
        }
        let roles = match membership {
            // Only there: in a tenant, everybody is what their membership says.
            None => profile.platform_roles.iter().map(|role| Role::from(*role)).collect(),
            Some(membership) => {
                let known = self.inner.known.get::<Membership>(*tenant, membership.0).await?;
                match &known.state {
                    Membership::Active { account: member, roles, .. } if member == account => {
                        // Those of the tenant's making are added by the rules.
                        roles.built_in.iter().map(|role| Role::from(*role)).collect()
                    }
                    _ => return Ok(None),
                }
            }
        };
        Ok(Some(Standing { roles }))
    }

    /// The account as this node knows it.
    ///
    /// # Errors
    /// When that cannot be told at the moment.
    pub async fn account(&self, account: AccountId) -> Result<Account, Unreadable> {
        Ok(self.inner.known.get::<Account>(PLATFORM_TENANT, account.0).await?.state.clone())
    }

    /// Carries out what an account does with itself, which needs no role: that it is its own is the proof.
    async fn as_itself<A>(
        &self,
        account: AccountId,
        session: Option<SessionId>,
        id: Uuid,
        command: A::Command,
        call: Call,
    ) -> Result<Executed<A>, ExecuteError<A::Error>>
    where
        A: EventSourced + Send + Sync + 'static,
        A::Command: Guarded + Clone + Serialize,
    {
        let action: Action = command.action();
        let actor = Actor { id: account.0, kind: ActorKind::Account };
        let credential = Credential::new(actor, PLATFORM_TENANT, Vec::new(), session.map(|session| session.0));
        let authorized = Authorized { command, action, tenant: PLATFORM_TENANT, credential, condition: None };
        self.inner.executor.execute::<A>(authorized, id, call).await
    }

    fn now(&self) -> DateTime<Utc> {
        self.inner.system.utc()
    }
}

struct Standing {
    roles: Vec<Role>,
}

/// What a bearer token looks like.
enum Kind {
    AccessToken,
    ApiKey,
    Other,
}

impl Kind {
    fn of(bearer: &str) -> Self {
        if bearer.starts_with(API_KEY_PREFIX) {
            Kind::ApiKey
        } else if bearer.bytes().filter(|byte| *byte == b'.').count() == 2 {
            Kind::AccessToken
        } else {
            Kind::Other
        }
    }
}
