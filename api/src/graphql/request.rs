//! What every resolver begins and ends with: who asks, what must show, how a command is sent and answered.
//!
//! Refuses to take the caller or its rights from anywhere but the request's credential.

use super::Parts;
use super::audit::door::denied;
use super::errors::{Code, UserError, error, of_execution};
use super::scalars::{BigInt, Position};
use super::sight::Sight;
use super::stale;
use crate::transport::{AtLeast, Caller, CorrelationId};
use async_graphql::{Context, Result, SimpleObject};
use daybook_app::{Call, Credential, Denied, ExecuteError, Executed, may, verdict};
use daybook_domain::{Action, Refusal, TenantId};
use daybook_projections::engine::Lanes;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) fn parts<'a>(ctx: &Context<'a>) -> Result<&'a Arc<Parts>> {
    ctx.data::<Arc<Parts>>()
}

pub(crate) fn credential<'a>(ctx: &Context<'a>) -> Result<&'a Credential> {
    ctx.data::<Credential>()
}

/// # Errors
/// `FORBIDDEN`, the same for a tenant that exists and for one that does not.
pub(crate) fn permit(ctx: &Context<'_>, action: Action, target: TenantId) -> Result<()> {
    if may(credential(ctx)?, action, target) { Ok(()) } else { Err(denied(ctx, &Denied { action }, target)) }
}

/// The tenant that a request is about: the caller's own unless it names another, which it must then be permitted.
pub(crate) fn tenant_of(ctx: &Context<'_>, named: Option<Uuid>) -> Result<TenantId> {
    Ok(named.map_or(credential(ctx)?.tenant, TenantId))
}

/// Waits until these read models show at least what the request asks for: its argument, its header, or
/// else the caller's own last write.
pub(crate) async fn at_least(
    ctx: &Context<'_>,
    models: &[&'static str],
    lanes: Lanes,
    argument: Option<Position>,
) -> Result<()> {
    let parts = parts(ctx)?;
    let asked = argument.map(|p| p.0).or_else(|| ctx.data_opt::<AtLeast>().map(|a| a.0.clone()));
    let position = match asked {
        Some(text) => {
            let (of, position) = parts
                .opaque
                .read_position(&text)
                .map_err(|e| error(Code::BadUserInput, format!("the position cannot be used: {e}")))?;
            parts.reads.resolve(parts.executor.journal(), of, position).await?
        }
        None => parts.reads.last_write(credential(ctx)?.actor.id),
    };
    // Checkpoints are positions of the whole journal: a write to another tenant shows when these lanes are past it.
    if let Some(position) = position {
        parts.reads.wait(models, lanes, position).await?;
    }
    stale::note(ctx, parts, models, lanes);
    Ok(())
}

/// The tenant position that a subscription goes on from.
///
/// # Errors
/// `BAD_USER_INPUT` for anything but a position of this tenant.
pub(crate) fn resume(ctx: &Context<'_>, tenant: TenantId, Position(text): Position) -> Result<u64> {
    let refused = |why: &str| error(Code::BadUserInput, format!("after cannot be used: {why}"));
    let (of, position) = parts(ctx)?.opaque.read_position(&text).map_err(|e| refused(&e.to_string()))?;
    if of == tenant { Ok(position) } else { Err(refused("it is a position of another tenant")) }
}

/// What surrounds a command, from the request.
///
/// # Errors
/// `BAD_USER_INPUT` for a version that cannot be one.
pub(crate) fn call(ctx: &Context<'_>, command_id: Option<Uuid>, expected_version: Option<BigInt>) -> Result<Call> {
    let expected_version = expected_version
        .map(|BigInt(version)| {
            u64::try_from(version).map_err(|_| error(Code::BadUserInput, "expectedVersion is negative"))
        })
        .transpose()?;
    let caller = ctx.data_opt::<Caller>().cloned().unwrap_or_default();
    Ok(Call {
        command_id,
        expected_version,
        ip: caller.ip.map(|ip| ip.to_string()),
        user_agent: caller.user_agent,
        correlation: ctx.data_opt::<CorrelationId>().map(|c| c.as_str().to_owned()).unwrap_or_default(),
        ..Call::default()
    })
}

/// What a mutation led to, whatever it changed.
#[derive(SimpleObject)]
pub struct Receipt {
    /// The moment of the change: send it as `atLeast` (or header `Daybook-At-Least`) to read at least that much,
    /// or as `after` to subscribe from there. Null when the business refused.
    pub position: Option<Position>,
    /// True when this answers a repeated `clientMutationId`.
    pub deduplicated: bool,
    /// What the business refuses; empty when done.
    pub user_errors: Vec<UserError>,
    #[graphql(skip)]
    pub(crate) written: Option<Written>,
}

/// Where a change was written.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) tenant: TenantId,
    /// Of the stream that changed.
    pub(crate) id: Uuid,
    pub(crate) journal_position: u64,
}

impl Receipt {
    pub(crate) fn refused(error: impl Into<UserError>) -> Self {
        Receipt::refused_all(vec![error.into()])
    }

    pub(crate) fn refused_all(user_errors: Vec<UserError>) -> Self {
        Receipt { position: None, deduplicated: false, user_errors, written: None }
    }

    /// What was written, once these read models show it; none if nothing was, or if the caller may not read it.
    pub(crate) async fn shown(
        &self,
        ctx: &Context<'_>,
        action: Action,
        models: &[&'static str],
    ) -> Result<Option<Written>> {
        let Some(written) = self.written else { return Ok(None) };
        if !may(credential(ctx)?, action, written.tenant) {
            return Ok(None);
        }
        parts(ctx)?.reads.wait(models, Lanes::Of(written.tenant), written.journal_position).await?;
        Ok(Some(written))
    }
}

impl Receipt {
    /// As [`Receipt::shown`], where what may be read depends on the record.
    pub(crate) async fn shown_some(
        &self,
        ctx: &Context<'_>,
        action: Action,
        models: &[&'static str],
    ) -> Result<Option<(Written, Sight)>> {
        let Some(written) = self.written else { return Ok(None) };
        let verdict = verdict(credential(ctx)?, action, written.tenant);
        if !verdict.is_possible() {
            return Ok(None);
        }
        parts(ctx)?.reads.wait(models, Lanes::Of(written.tenant), written.journal_position).await?;
        Ok(Some((written, Sight::of(verdict, credential(ctx)?))))
    }
}

/// What became of a command, in the client's terms.
///
/// # Errors
/// What is no refusal of the business.
pub(crate) fn receipt<A, R: Refusal>(
    ctx: &Context<'_>,
    id: Uuid,
    executed: Result<Executed<A>, ExecuteError<R>>,
) -> Result<Receipt> {
    let outcome = match executed {
        Ok(executed) => executed.outcome,
        Err(ExecuteError::Denied(of)) => return Err(denied(ctx, &of, credential(ctx)?.tenant)),
        Err(failure) => return of_execution(failure).map(Receipt::refused),
    };
    let parts = parts(ctx)?;
    parts.reads.wrote(credential(ctx)?.actor.id, outcome.tenant, outcome.last_position);
    let position = parts.opaque.position(outcome.tenant, outcome.last_tenant_position);
    ctx.insert_http_header(crate::transport::POSITION_HEADER, position.clone());
    Ok(Receipt {
        position: Some(Position(position)),
        deduplicated: outcome.deduplicated,
        user_errors: Vec::new(),
        written: Some(Written { tenant: outcome.tenant, id, journal_position: outcome.last_position }),
    })
}
