//! Coming in, going on and going out: logins, sessions and their tokens, passwords.

use super::accounts::AccountPayload;
use crate::graphql::audit::door::denied;
use crate::graphql::errors::{Code, UserError, error, internal, of_append, of_execution, with_retry};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, call, credential, parts, permit, receipt};
use crate::transport::Caller;
use async_graphql::{Context, Error, ErrorExtensions, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::Credential;
use daybook_app::identity::passwords::Password;
use daybook_app::identity::{LoginError, Tokens, Unreadable, Verified};
use daybook_domain::platform::Account as AccountAggregate;
use daybook_domain::value::Reason;
use daybook_domain::{AccountId, Action, ActorKind, PLATFORM_TENANT, SessionId, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::{account_tenants, sessions};
use daybook_projections::{AccountTenants, ReadModel, Scope, Sessions};
use std::net::IpAddr;
use uuid::Uuid;

/// What to go on with after a login.
#[derive(SimpleObject)]
pub struct SessionTokens {
    /// Send it as `Authorization: Bearer …`. Good for five minutes at most.
    pub access_token: String,
    /// When it is no longer good; get a new one before, with `refresh`.
    pub access_token_expires_at: DateTime<Utc>,
    /// Good once, for the next two tokens. Keep it where scripts cannot read it. Null where the one you have stays good.
    pub refresh_token: Option<String>,
    /// Id of the session.
    pub session: Uuid,
    /// When the session ends at the latest.
    pub session_expires_at: DateTime<Utc>,
    /// Id of your account.
    pub account: Uuid,
    /// Id of the tenant that the session is in.
    pub tenant: Uuid,
    /// Id of your membership there; null in the platform's own tenant.
    pub membership: Option<Uuid>,
}

impl From<Tokens> for SessionTokens {
    fn from(tokens: Tokens) -> Self {
        SessionTokens {
            access_token: tokens.access_token.to_string(),
            access_token_expires_at: tokens.access_expires_at,
            refresh_token: tokens.refresh_token.map(|token| token.to_string()),
            session: tokens.session.0,
            session_expires_at: tokens.session_expires_at,
            account: tokens.account.0,
            tenant: tokens.tenant.0,
            membership: tokens.membership.map(|membership| membership.0),
        }
    }
}

/// What came of beginning a session or going on with one.
#[derive(SimpleObject)]
pub struct SessionPayload {
    /// Null when the business refused.
    pub tokens: Option<SessionTokens>,
    /// What the business refuses; empty when done.
    pub user_errors: Vec<UserError>,
}

/// What came of ending sessions.
#[derive(SimpleObject)]
pub struct EndSessionPayload {
    /// Whether they have ended.
    pub ended: bool,
    /// What the business refuses; empty when done.
    pub user_errors: Vec<UserError>,
}

/// A session of yours that is open.
#[derive(SimpleObject)]
pub struct OpenSession {
    pub id: Uuid,
    /// Id of the tenant that it is in.
    pub tenant: Uuid,
    /// How it was begun, e.g. `"password"`.
    pub method: String,
    pub started_at: DateTime<Utc>,
    /// When it was gone on with last.
    pub used_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
    /// Whether it is the one of this request.
    pub current: bool,
}

/// Who logs in, and where.
#[derive(InputObject)]
pub struct LoginInput {
    /// E.g. `"ada@example.com"`; upper and lower case alike.
    pub email: String,
    pub password: String,
    /// Id of the tenant to work in. Unless told: the platform's if you have a role there, else the first that you joined.
    pub tenant: Option<Uuid>,
}

/// What to go on with.
#[derive(InputObject)]
pub struct RefreshInput {
    /// The last one that you got.
    pub refresh_token: String,
}

/// Which session to end, where the request has no access token of it.
#[derive(InputObject)]
pub struct LogoutInput {
    /// The last one that you got.
    pub refresh_token: Option<String>,
}

/// Where to go.
#[derive(InputObject)]
pub struct SwitchTenantInput {
    /// Id of the tenant.
    pub tenant: Uuid,
}

/// A session to end.
#[derive(InputObject)]
pub struct RevokeSessionInput {
    /// Id of the session.
    pub id: Uuid,
    /// 1–500 characters.
    pub reason: Option<String>,
}

/// Whose sessions to end.
#[derive(InputObject)]
pub struct RevokeAllSessionsInput {
    /// Id of the account; your own unless told.
    pub account: Option<Uuid>,
    /// 1–500 characters.
    pub reason: String,
}

/// An account and its new password: one of `password` and `hash`.
#[derive(InputObject)]
pub struct SetPasswordInput {
    /// Id of the account.
    pub account: Uuid,
    /// 10–256 characters.
    pub password: Option<String>,
    /// A hash that was made elsewhere: bcrypt (`$2b$…`) or Argon2 (`$argon2id$…`). It is replaced at the next login.
    pub hash: Option<String>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

/// Your password of before and the one to come.
#[derive(InputObject)]
pub struct ChangePasswordInput {
    /// The password of before.
    pub current: String,
    /// 10–256 characters.
    pub new: String,
}

fn address(ctx: &Context<'_>) -> Option<IpAddr> {
    ctx.data_opt::<Caller>().and_then(|caller| caller.ip)
}

/// Either something for the payload, or something that fails the field.
pub(super) fn told(ctx: &Context<'_>, failure: LoginError) -> Result<UserError, Error> {
    let message = failure.to_string();
    match failure {
        LoginError::Wrong | LoginError::Ended => Err(error(Code::Unauthenticated, message)),
        LoginError::NoMember => Err(error(Code::Forbidden, message)),
        LoginError::Shut(shut) => Err(Error::new(message).extend_with(|_, e| e.set("code", shut.code()))),
        LoginError::TooMany(wait) | LoginError::TooOften(wait) => {
            Err(with_retry(error(Code::RateLimited, message), wait))
        }
        LoginError::Busy(wait) => Err(with_retry(error(Code::Unavailable, message), wait)),
        LoginError::Denied(refused) => Err(denied(ctx, &refused, PLATFORM_TENANT)),
        LoginError::Invalid(invalid) => Ok(invalid.into()),
        LoginError::Account(failure) => of_execution(failure),
        LoginError::Session(failure) => of_execution(failure),
        LoginError::Journal(failure) => Err(of_append(failure)),
        LoginError::Unreadable(_) | LoginError::Database(_) => {
            tracing::warn!(error = %failure, "somebody could not be let in");
            Err(error(Code::Unavailable, "who you are cannot be told at the moment: try again"))
        }
        LoginError::Hash(_) => Err(internal(&failure)),
    }
}

/// What is known of somebody cannot be read.
pub(super) fn unreadable(failure: &Unreadable) -> Error {
    tracing::warn!(error = %failure, "an account could not be looked at");
    error(Code::Unavailable, "who you are cannot be told at the moment: try again")
}

fn payload(ctx: &Context<'_>, done: Result<Tokens, LoginError>) -> Result<SessionPayload> {
    match done {
        Ok(tokens) => Ok(SessionPayload { tokens: Some(tokens.into()), user_errors: Vec::new() }),
        Err(failure) => Ok(SessionPayload { tokens: None, user_errors: vec![told(ctx, failure)?] }),
    }
}

fn ended(ctx: &Context<'_>, done: Result<(), LoginError>) -> Result<EndSessionPayload> {
    match done {
        Ok(()) => Ok(EndSessionPayload { ended: true, user_errors: Vec::new() }),
        Err(failure) => Ok(EndSessionPayload { ended: false, user_errors: vec![told(ctx, failure)?] }),
    }
}

/// Waits until read models show all that is durable now, as far as they do in time.
async fn up_to_date(ctx: &Context<'_>, models: &[&'static str], lanes: Lanes) -> Result<()> {
    let parts = parts(ctx)?;
    let now = parts.executor.journal().durable().borrow().position;
    if let Err(late) = parts.reads.wait(models, lanes, now).await {
        tracing::debug!(error = late.message, "memberships or sessions are looked at as they are shown");
    }
    Ok(())
}

/// The memberships of an account that hold, in the order in which it joined.
pub(super) async fn tenants_of(
    ctx: &Context<'_>,
    account: AccountId,
) -> Result<Vec<daybook_projections::platform::members::MemberRow>> {
    up_to_date(ctx, &[AccountTenants::NAME], Lanes::All).await?;
    let reader = parts(ctx)?.reads.reader();
    let read = reader.transaction(Scope::Account(account), async |s| account_tenants::of_account(s, account).await);
    read.await.map_err(failed)
}

/// Where a login goes that names no tenant.
async fn place(ctx: &Context<'_>, verified: &Verified) -> Result<TenantId> {
    let account = verified.account();
    let known = parts(ctx)?.identity.account(account).await.map_err(|e| unreadable(&e))?;
    if known.profile().is_some_and(|profile| !profile.platform_roles.is_empty()) {
        return Ok(PLATFORM_TENANT);
    }
    let first = tenants_of(ctx, account).await?.into_iter().next();
    first.map(|row| TenantId(row.tenant_id)).ok_or_else(|| error(Code::Forbidden, "you are a member of no tenant"))
}

#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Begins a session. Needs no credential. What is wrong is not told: `UNAUTHENTICATED` for an unknown address as for a
    /// wrong password. `RATE_LIMITED` after failures from the same address, `UNAVAILABLE` when too many log in at once; both
    /// with `retryAfterS`.
    async fn login(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who, and where.")] input: LoginInput,
    ) -> Result<SessionPayload> {
        let identity = &parts(ctx)?.identity;
        let verified = match identity.verify(&input.email, Password::typed(input.password), address(ctx)).await {
            Ok(verified) => verified,
            Err(failure) => return payload(ctx, Err(failure)),
        };
        let tenant = match input.tenant {
            Some(tenant) => TenantId(tenant),
            None => place(ctx, &verified).await?,
        };
        let started = identity.start(verified, tenant, call(ctx, None, None)?).await;
        payload(ctx, started)
    }

    /// Exchanges a refresh token for a new one and a new access token. Needs no other credential. For 20 seconds the same
    /// one gets the same again; after that, or once the new one was used, it ends the session: it is in the hands of two.
    /// `RATE_LIMITED` with `retryAfterS` when one session does it in a loop.
    async fn refresh(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to go on with.")] input: RefreshInput,
    ) -> Result<SessionPayload> {
        let call = call(ctx, None, None)?;
        let refreshed = parts(ctx)?.identity.refresh(&input.refresh_token, call).await;
        payload(ctx, refreshed)
    }

    /// Ends the session of this request, or of the refresh token. Its tokens are good for nothing from then on, and its
    /// subscriptions end.
    async fn logout(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only where the request has no access token.")] input: Option<LogoutInput>,
    ) -> Result<EndSessionPayload> {
        let (identity, call) = (&parts(ctx)?.identity, call(ctx, None, None)?);
        let done = match (input.and_then(|input| input.refresh_token), ctx.data_opt::<Credential>()) {
            (Some(token), _) => identity.logout_with(&token, call).await,
            (None, Some(credential)) => identity.logout(credential, call).await,
            (None, None) => Err(LoginError::Ended),
        };
        ended(ctx, done)
    }

    /// Moves the session to another tenant of which you are a member, for a new access token. Those of before are good for
    /// nothing from then on; the refresh token stays.
    async fn switch_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where to go.")] input: SwitchTenantInput,
    ) -> Result<SessionPayload> {
        let call = call(ctx, None, None)?;
        let switched = parts(ctx)?.identity.switch_tenant(credential(ctx)?, TenantId(input.tenant), call).await;
        payload(ctx, switched)
    }

    /// Ends a session of yours, on whatever device, or of anybody with the permission `session.end`.
    async fn revoke_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The session and why.")] input: RevokeSessionInput,
    ) -> Result<EndSessionPayload> {
        let reason = match input.reason.as_deref().map(Reason::parse).transpose() {
            Ok(reason) => reason,
            Err(invalid) => return ended(ctx, Err(invalid.into())),
        };
        let call = call(ctx, None, None)?;
        let done = parts(ctx)?.identity.revoke(credential(ctx)?, SessionId(input.id), reason, call).await;
        ended(ctx, done)
    }

    /// Ends every session of yours, that of this request among them, or of anybody with the permission
    /// `account.revokeSessions`.
    async fn revoke_all_sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose, and why.")] input: RevokeAllSessionsInput,
    ) -> Result<EndSessionPayload> {
        let credential = credential(ctx)?;
        let reason = match Reason::parse(&input.reason) {
            Ok(reason) => reason,
            Err(invalid) => return ended(ctx, Err(invalid.into())),
        };
        let account = AccountId(input.account.unwrap_or(credential.actor.id));
        let call = call(ctx, None, None)?;
        ended(ctx, parts(ctx)?.identity.revoke_all(credential, account, reason, call).await)
    }

    /// Gives an account a password, in place of the one of before. All its sessions end. Needs the permission
    /// `account.setPassword`, which is the platform's alone; one's own is changed by `changePassword`.
    async fn set_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and its password.")] input: SetPasswordInput,
    ) -> Result<AccountPayload> {
        // Before anything is said of what was sent.
        permit(ctx, Action::AccountSetPassword, PLATFORM_TENANT)?;
        let account = AccountId(input.account);
        let call = call(ctx, input.client_mutation_id, None)?;
        let (identity, credential) = (&parts(ctx)?.identity, credential(ctx)?);
        let done = match (input.password, input.hash) {
            (Some(password), None) => match Password::parse(&["password"], password) {
                Ok(password) => identity.set_password(credential, account, password, call).await,
                Err(invalid) => Err(invalid.into()),
            },
            (None, Some(hash)) => identity.import_password(credential, account, &hash, call).await,
            _ => return Err(error(Code::BadUserInput, "give one of password and hash")),
        };
        match done {
            Ok(executed) => {
                let executed = Ok::<_, daybook_app::ExecuteError<daybook_domain::platform::AccountError>>(executed);
                Ok(AccountPayload { receipt: receipt::<AccountAggregate, _>(ctx, account.0, executed)? })
            }
            Err(failure) => Ok(AccountPayload { receipt: Receipt::refused(told(ctx, failure)?) }),
        }
    }

    /// Changes your password. All your sessions end; go on with the tokens that you get.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The password of before and the one to come.")] input: ChangePasswordInput,
    ) -> Result<SessionPayload> {
        let new = match Password::parse(&["new"], input.new) {
            Ok(new) => new,
            Err(invalid) => return payload(ctx, Err(invalid.into())),
        };
        let (current, call) = (Password::typed(input.current), call(ctx, None, None)?);
        let identity = &parts(ctx)?.identity;
        payload(ctx, identity.change_password(credential(ctx)?, current, new, address(ctx), call).await)
    }
}

#[derive(Default)]
pub struct SessionQuery;

#[Object]
impl SessionQuery {
    /// Your open sessions, newest first; at most 200. Of a service account, none.
    async fn my_sessions(&self, ctx: &Context<'_>) -> Result<Vec<OpenSession>> {
        let credential = credential(ctx)?;
        if credential.actor.kind != ActorKind::Account {
            return Ok(Vec::new());
        }
        let (account, parts) = (AccountId(credential.actor.id), parts(ctx)?);
        let known = parts.identity.account(account).await.map_err(|e| unreadable(&e))?;
        let generation = known.profile().map_or(0, |profile| profile.generation);
        up_to_date(ctx, &[Sessions::NAME], Lanes::Of(PLATFORM_TENANT)).await?;
        let (now, idle_since) = (parts.system.utc(), parts.identity.idle_since());
        let scope = Scope::Tenant(PLATFORM_TENANT);
        let read = parts
            .reads
            .reader()
            .transaction(scope, async |s| sessions::open(s, account, generation, idle_since, now).await);
        let current = credential.session;
        let rows = read.await.map_err(failed)?.into_iter().map(|row| OpenSession {
            id: row.session_id,
            tenant: row.in_tenant_id,
            method: row.method,
            started_at: row.started_at,
            used_at: row.used_at,
            expires_at: row.expires_at,
            current: current == Some(row.session_id),
        });
        Ok(rows.collect())
    }
}
