//! Subscriptions to the rows of a read model: every change after a position, without gap or duplicate, then those to come.

use super::Parts;
use async_graphql::{Enum, Result};
use daybook_domain::TenantId;
use daybook_projections::ReadModel;
use daybook_projections::read::Change;
use futures_util::{Stream, StreamExt};
use std::sync::Arc;

/// What a change did to the thing that changed.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// Some of its fields differ.
    Updated,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    pub(crate) fn of<R>(change: &Change<R>) -> Self {
        match (&change.before, &change.after) {
            (None, _) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
            (Some(_), None) => ChangeKind::Removed,
        }
    }
}

/// The changes of a tenant's rows after a tenant position. An error is the last item.
pub(crate) fn changes<M: ReadModel>(
    parts: Arc<Parts>,
    tenant: TenantId,
    after: u64,
) -> impl Stream<Item = Result<Change<M::Row>>> + use<M> {
    let pages = futures_util::stream::unfold((after, false), move |(after, ended)| {
        let parts = parts.clone();
        async move {
            if ended {
                return None;
            }
            match parts.reads.next_changes::<M>(tenant, after).await {
                Ok(page) => {
                    let last = page.last().map_or(after, |c| c.tenant_position);
                    Some((page.into_iter().map(Ok).collect::<Vec<_>>(), (last, false)))
                }
                // The error is the last word: what comes after it would have a gap.
                Err(error) => Some((vec![Err(error)], (after, true))),
            }
        }
    });
    pages.flat_map(futures_util::stream::iter)
}
