//! From an e-mail address and a password to an account, and passwords that are set and changed.

use super::passwords::{HashError, Password, Verdict, imported};
use super::{Identity, Shut, Tokens, Unreadable};
use crate::authorize::{Authorized, Credential, Denied, authorize};
use crate::executor::{Call, ExecuteError, Executed};
use daybook_domain::platform::account::{AccountError, EMAIL_KEY, key_of_email};
use daybook_domain::platform::session::SessionError;
use daybook_domain::platform::{Account, AccountCommand};
use daybook_domain::value::EmailAddress;
use daybook_domain::{AccountId, ActorKind, CredentialId, InvalidValue, PLATFORM_TENANT, SessionId};
use daybook_store::access::{Attempt, AttemptKind};
use daybook_store::database::DatabaseError;
use daybook_store::journal::{AppendError, ClaimKey};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Asked for where there is no account, so that the same is done.
const NOBODY: AccountId = AccountId(Uuid::nil());

/// Why somebody does not come in, or not on.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Whatever it is that is wrong: whoever guesses is not told.
    #[error("the e-mail address or the password is wrong")]
    Wrong,
    #[error("the session has ended or the token is not valid; log in again")]
    Ended,
    #[error("you are no member of this tenant, or it is not open")]
    NoMember,
    /// Told to its members only.
    #[error(transparent)]
    Shut(#[from] Shut),
    #[error("too many failed logins; try again in {} s", .0.as_secs().max(1))]
    TooMany(Duration),
    #[error("this session has gone on too often; try again in {} s", .0.as_secs().max(1))]
    TooOften(Duration),
    #[error("too many logins at the moment; try again in {} s", .0.as_secs().max(1))]
    Busy(Duration),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    #[error(transparent)]
    Account(#[from] ExecuteError<AccountError>),
    #[error(transparent)]
    Session(#[from] ExecuteError<SessionError>),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the identity tables cannot be used at the moment")]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Journal(#[from] AppendError),
    #[error(transparent)]
    Hash(HashError),
}

impl From<HashError> for LoginError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy(wait) => LoginError::Busy(wait),
            other => LoginError::Hash(other),
        }
    }
}

/// An account whose password was right a moment ago. Only [`Identity::verify`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    pub(super) account: AccountId,
    /// Of its sessions, at that moment.
    pub(super) generation: u64,
    /// Of the account, at that moment: if it has another by now, the password may be another as well.
    version: u64,
}

impl Verified {
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Of an account that has just got this state, by the word of whom it is.
    fn anew(account: AccountId, executed: &Executed<Account>) -> Option<Self> {
        let generation = executed.state.as_ref()?.profile()?.generation;
        Some(Verified { account, generation, version: executed.version? })
    }
}

impl Identity {
    /// Compares a password with the one of whoever has that e-mail address. What is answered, and when, is the same
    /// whether or not there is such an account.
    ///
    /// # Errors
    /// [`LoginError::Wrong`]; that there is no room, or that it is too soon after failures.
    pub async fn verify(
        &self,
        email: &str,
        password: Password,
        address: Option<IpAddr>,
    ) -> Result<Verified, LoginError> {
        let parsed = EmailAddress::parse(email).ok();
        // What is no address is held back like one.
        let name = parsed.as_ref().map_or_else(|| email.chars().take(300).collect(), key_of_email);
        let attempt = self.inner.throttle.attempt(&name, address, Instant::now()).map_err(LoginError::TooMany)?;
        match self.compare(&name, password).await {
            Ok(Ok(verified)) => {
                attempt.succeeded();
                Ok(verified)
            }
            Ok(Err(account)) => {
                self.inner.access.record(Attempt {
                    kind: AttemptKind::FailedLogin,
                    tenant: PLATFORM_TENANT,
                    actor: account.map(|account| account.0),
                    action: "login",
                    target: Some(self.inner.access.token_hash(&name)),
                });
                Err(LoginError::Wrong)
            }
            Err(error) => {
                attempt.came_to_nothing();
                Err(error)
            }
        }
    }

    /// The same steps for everybody: who it is, what is known of them, what their password is, whether it is this one.
    async fn compare(&self, name: &str, password: Password) -> Result<Result<Verified, Option<AccountId>>, LoginError> {
        let inner = &self.inner;
        let hash = inner.executor.files.unique_hash(EMAIL_KEY, name);
        let claim = ClaimKey { scope: PLATFORM_TENANT, kind: EMAIL_KEY, hash };
        let (_, holders) = inner.executor.journal().holders(&[claim]).await?;
        let account = holders.first().copied().flatten().map(AccountId);
        let id = account.unwrap_or(NOBODY);
        let known = inner.known.get::<Account>(PLATFORM_TENANT, id.0).await?;
        let profile = match &known.state {
            Account::Active { profile } => Some(profile),
            Account::Absent | Account::Deactivated { .. } => None,
        };
        let credential = profile.and_then(|profile| profile.password);
        let stored = inner.secrets.password(id, credential.unwrap_or(CredentialId(Uuid::nil()))).await?;
        let verdict = inner.passwords.compare(password, stored.clone()).await?;
        let (Verdict::Right(renewed), Some(profile), Some(credential)) = (verdict, profile, credential) else {
            return Ok(Err(account));
        };
        if let (Some(renewed), Some(stored)) = (renewed, stored) {
            // The login does not depend on it; the next one tries again.
            if let Err(error) = inner.secrets.rehash(id, credential, &stored, &renewed).await {
                tracing::warn!(%error, "a password's hash could not be renewed");
            }
        }
        Ok(Ok(Verified { account: id, generation: profile.generation, version: known.version }))
    }

    /// Gives an account a password, in the name of somebody who may. All its sessions end.
    ///
    /// # Errors
    /// [`LoginError::Denied`]; that there is no such account.
    pub async fn set_password(
        &self,
        credential: &Credential,
        account: AccountId,
        password: Password,
        call: Call,
    ) -> Result<Executed<Account>, LoginError> {
        let id = self.credential_id(credential, &call);
        let authorized = authorize(credential, PLATFORM_TENANT, AccountCommand::SetPassword { credential: id })?;
        let hash = self.inner.passwords.hash(password).await?;
        self.put_password(authorized, account, id, &hash, call).await
    }

    /// As [`Identity::set_password`], with a hash from elsewhere.
    ///
    /// # Errors
    /// As there; that the hash cannot be imported.
    pub async fn import_password(
        &self,
        credential: &Credential,
        account: AccountId,
        hash: &str,
        call: Call,
    ) -> Result<Executed<Account>, LoginError> {
        let id = self.credential_id(credential, &call);
        let authorized = authorize(credential, PLATFORM_TENANT, AccountCommand::SetPassword { credential: id })?;
        let hash = imported(hash)?;
        self.put_password(authorized, account, id, &hash, call).await
    }

    /// Changes one's own password, which takes the one of before. All sessions end; the caller goes on with a new one.
    ///
    /// # Errors
    /// [`LoginError::Wrong`] when the password of before is; [`LoginError::Ended`] for who is not logged in; a conflict when
    /// the account was changed meanwhile, perhaps by an administrator who has given it another password.
    pub async fn change_password(
        &self,
        credential: &Credential,
        current: Password,
        new: Password,
        address: Option<IpAddr>,
        call: Call,
    ) -> Result<Tokens, LoginError> {
        let (account, session) = own_session(credential)?;
        let Account::Active { profile } = self.account(account).await? else { return Err(LoginError::Ended) };
        let email = profile.email.value().map(|email| email.as_str().to_owned()).ok_or(LoginError::Ended)?;
        // By the same door as everybody, so that a stolen token is no way to guess the password.
        let verified = self.verify(&email, current, address).await?;
        // The address may be another's by now.
        if verified.account != account {
            return Err(LoginError::Wrong);
        }
        let id = CredentialId(self.inner.system.uuid_v4());
        let hash = self.inner.passwords.hash(new).await?;
        self.inner.secrets.put_password(account, id, &hash, self.now()).await?;
        let command = AccountCommand::SetPassword { credential: id };
        // What was verified is replaced, and nothing that came after it.
        let only = Call { expected_version: Some(verified.version), ..call.clone() };
        let done = match self.as_itself::<Account>(account, Some(session), account.0, command, only).await {
            Ok(done) => done,
            Err(error) => {
                if matches!(error, ExecuteError::Conflict { .. } | ExecuteError::Refused(_)) {
                    self.inner.secrets.forget_password(account, id).await?;
                }
                return Err(error.into());
            }
        };
        self.forget_replaced(account, id, &done).await?;
        let verified = Verified::anew(account, &done).ok_or(LoginError::Ended)?;
        self.start(verified, credential.tenant, call).await
    }

    /// Forgets the password that a command has replaced.
    async fn forget_replaced(
        &self,
        account: AccountId,
        by: CredentialId,
        done: &Executed<Account>,
    ) -> Result<(), DatabaseError> {
        let replaced = done.before.as_ref().and_then(|before| before.state.profile()?.password);
        match replaced.filter(|replaced| *replaced != by) {
            Some(replaced) => self.inner.secrets.forget_password(account, replaced).await,
            None => Ok(()),
        }
    }

    /// From the command's id where the client gave one, so that a repeat is about the same password.
    fn credential_id(&self, credential: &Credential, call: &Call) -> CredentialId {
        let of_command = call.command_id.map(|id| Uuid::new_v5(&credential.actor.id, id.as_bytes()));
        CredentialId(of_command.unwrap_or_else(|| self.inner.system.uuid_v4()))
    }

    /// First the secret, then the event that makes it count.
    async fn put_password(
        &self,
        authorized: Authorized<AccountCommand>,
        account: AccountId,
        id: CredentialId,
        hash: &str,
        call: Call,
    ) -> Result<Executed<Account>, LoginError> {
        self.inner.secrets.put_password(account, id, hash, self.now()).await?;
        // Of an id that the client gave, another attempt may be under way.
        let fresh = call.command_id.is_none();
        match self.inner.executor.execute::<Account>(authorized, account.0, call).await {
            Ok(executed) => {
                self.forget_replaced(account, id, &executed).await?;
                Ok(executed)
            }
            Err(error) => {
                if fresh && matches!(error, ExecuteError::Refused(_)) {
                    self.inner.secrets.forget_password(account, id).await?;
                }
                Err(error.into())
            }
        }
    }
}

/// Whose session a credential is of.
pub(super) fn own_session(credential: &Credential) -> Result<(AccountId, SessionId), LoginError> {
    match (credential.actor.kind, credential.session) {
        (ActorKind::Account, Some(session)) => Ok((AccountId(credential.actor.id), SessionId(session))),
        _ => Err(LoginError::Ended),
    }
}
