//! What a caller may see of records where that depends on the record: by rules of its roles, or by a consent of the tenant
//! whose they are.
//!
//! A resolver that gets a [`Sight`] must put it to use, in its statement or on the row: there is no other way to make use of it.

use super::audit::door::{denied, note};
use super::errors::{Code, error, internal};
use super::request::{credential, parts};
use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextPrepareRequest};
use async_graphql::{Context, Error, ErrorExtensions, Request, Result, ServerError, ServerResult};
use daybook_app::rules::Unreadable;
use daybook_app::{Credential, Denied, Rules};
use daybook_domain::condition::Record;
use daybook_domain::rules::{FieldRead, Verdict};
use daybook_domain::{Action, TenantId};
use daybook_projections::read::condition::RowRule;
use std::any::TypeId;
use std::sync::Arc;

/// Which records of a tenant a caller may see.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Sight {
    pub(crate) verdict: Verdict,
    rule: RowRule,
}

impl Sight {
    pub(crate) fn of(verdict: Verdict, credential: &Credential) -> Self {
        let rule = RowRule { condition: verdict.condition(), claims: credential.claims() };
        Sight { verdict, rule }
    }

    /// For a statement.
    pub(crate) fn rule(&self) -> &RowRule {
        &self.rule
    }

    /// Whether it depends on the record.
    pub(crate) fn is_partial(&self) -> bool {
        self.verdict != Verdict::Always
    }

    /// Whether a record is among them.
    pub(crate) fn shows(&self, record: &impl Record) -> bool {
        match &self.verdict {
            Verdict::Always => true,
            Verdict::Never => false,
            Verdict::If(condition) => condition.judge(record, &self.rule.claims).holds(),
        }
    }
}

/// What the caller may see of a tenant's records by an action; none if nothing, which is counted and not told.
pub(crate) async fn sight(ctx: &Context<'_>, action: Action, target: TenantId) -> Result<Option<Sight>> {
    let credential = credential(ctx)?;
    let verdict = parts(ctx)?.rules.verdict(credential, action, target).await.map_err(|e| unreadable(&e))?;
    if !verdict.is_possible() {
        note(ctx, action, target);
        return Ok(None);
    }
    Ok(Some(Sight::of(verdict, credential)))
}

/// As [`sight`].
///
/// # Errors
/// `FORBIDDEN` if it is nothing, the same for a tenant that exists and for one that does not.
pub(crate) async fn permit_some(ctx: &Context<'_>, action: Action, target: TenantId) -> Result<Sight> {
    sight(ctx, action, target).await?.ok_or_else(|| denied(ctx, &Denied { action }, target))
}

/// Nothing is permitted while it cannot be told what is.
pub(crate) fn unreadable(failure: &Unreadable) -> Error {
    if !failure.is_passing() {
        return internal(failure);
    }
    tracing::warn!(error = %failure, "rules could not be read");
    error(Code::Unavailable, "what you may do cannot be told at the moment: try again")
}

/// A value as a field rule lets it be seen: what is hidden is not there, of what is masked the last four characters show,
/// if that is less than half.
pub(crate) fn as_seen(read: FieldRead, value: Option<&str>) -> Option<String> {
    let value = value?;
    match read {
        FieldRead::Show => Some(value.to_owned()),
        FieldRead::Hide => None,
        FieldRead::Mask => {
            let characters = value.chars().count();
            let shown = if characters > 8 { 4 } else { 0 };
            Some(std::iter::once('…').chain(value.chars().skip(characters - shown)).collect())
        }
    }
}

/// Completes each request's credential with the roles of the tenant's making that its actor holds, as they are now.
pub(super) struct CompleteCredential(pub(super) Rules);

struct Completer(Rules);

impl ExtensionFactory for CompleteCredential {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Completer(self.0.clone()))
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for Completer {
    async fn prepare_request(
        &self,
        ctx: &ExtensionContext<'_>,
        mut request: Request,
        next: NextPrepareRequest<'_>,
    ) -> ServerResult<Request> {
        let data = request.data.get(&TypeId::of::<Credential>());
        if let Some(credential) = data.and_then(|data| data.downcast_ref::<Credential>()).cloned() {
            let complete = self.0.complete(credential).await;
            let complete = complete.map_err(|failure| {
                let Error { message, extensions, .. } = unreadable(&failure).extend_with(|_, _| {});
                ServerError { extensions, ..ServerError::new(message, None) }
            })?;
            request.data.insert(complete);
        }
        next.run(ctx, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_masked_less_than_half_shows() {
        for (value, masked) in [("SN-123456789", "…6789"), ("12345678", "…"), ("ä", "…"), ("äöüäöüäöü", "…üäöü")]
        {
            assert_eq!(as_seen(FieldRead::Mask, Some(value)).as_deref(), Some(masked));
        }
        assert_eq!(as_seen(FieldRead::Hide, Some("x")), None);
        assert_eq!(as_seen(FieldRead::Show, Some("x")).as_deref(), Some("x"));
        assert_eq!(as_seen(FieldRead::Mask, None), None);
    }
}
