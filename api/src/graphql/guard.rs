//! Subscriptions end when what they show may not be seen any more: a role was changed or taken away, a membership ended, a
//! consent was revoked or has come to its end.
//!
//! Nothing that was recorded after such a change is handed out: before each item, the change of rules is waited for that may
//! have been recorded before it.

use super::Parts;
use super::errors::{Code, error};
use super::request::{credential, parts};
use super::sight::{Sight, unreadable};
use async_graphql::{Context, Error, Result};
use chrono::{DateTime, Utc};
use daybook_app::Credential;
use daybook_domain::{Action, TenantId};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Of no account: looked at again then.
const LONG: Duration = Duration::from_secs(60 * 60);

struct Guard<T> {
    stream: BoxStream<'static, Result<T>>,
    parts: Arc<Parts>,
    credential: Credential,
    action: Action,
    target: TenantId,
    /// What the stream was begun with.
    sight: Sight,
    changed: watch::Receiver<u64>,
    /// When the clock may end it, as far as was seen at the last look.
    until: Option<DateTime<Utc>>,
}

/// A stream that ends with `FORBIDDEN` once its caller may see anything else than at its beginning, or what its roles say has
/// changed in any way. `sight`: what that was.
pub(crate) fn guarded<T: Send + 'static>(
    ctx: &Context<'_>,
    action: Action,
    target: TenantId,
    sight: Sight,
    stream: impl Stream<Item = Result<T>> + Send + 'static,
) -> Result<BoxStream<'static, Result<T>>> {
    let parts = parts(ctx)?.clone();
    let mut changed = parts.rules.changed();
    // Looked at once more at the first item: what changed since the sight was taken counts.
    changed.mark_changed();
    let credential = credential(ctx)?.clone();
    let guard = Guard { stream: stream.boxed(), parts, credential, action, target, sight, changed, until: None };
    let guarded = futures_util::stream::unfold(Some(guard), |guard| async move {
        let mut guard = guard?;
        match guard.next().await {
            Some(Ok(item)) => Some((Ok(item), Some(guard))),
            // The error is the last word.
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    });
    Ok(guarded.boxed())
}

impl<T: Send + 'static> Guard<T> {
    async fn next(&mut self) -> Option<Result<T>> {
        loop {
            let left = self.left();
            tokio::select! {
                biased;
                _ = self.changed.changed() => {}
                () = tokio::time::sleep(left) => {}
                item = self.stream.next() => {
                    let item = item?;
                    // What was recorded before this item may have taken it away.
                    let recorded = self.parts.executor.journal().durable().borrow().position;
                    self.parts.rules.caught_up(recorded).await;
                    return Some(match self.check().await {
                        Ok(()) => item,
                        Err(ended) => Err(ended),
                    });
                }
            }
            if let Err(ended) = self.check().await {
                return Some(Err(ended));
            }
        }
    }

    /// How long the clock leaves things as they are.
    fn left(&self) -> Duration {
        let left = self.until.map(|until| (until - self.parts.system.utc()).to_std().unwrap_or_default());
        left.unwrap_or(LONG).min(LONG)
    }

    async fn check(&mut self) -> Result<(), Error> {
        self.changed.mark_unchanged();
        let rules = &self.parts.rules;
        let credential = rules.complete(self.credential.clone()).await.map_err(|e| unreadable(&e))?;
        let verdict = rules.verdict(&credential, self.action, self.target).await.map_err(|e| unreadable(&e))?;
        let is_possible = verdict.is_possible();
        // What is below an item is resolved with the roles of the beginning, hidden fields and other permissions among them.
        let as_begun = credential.permissions.roles() == self.credential.permissions.roles();
        if as_begun && Sight::of(verdict, &credential) == self.sight {
            self.until = rules.until(&credential, self.target).await.map_err(|e| unreadable(&e))?;
            return Ok(());
        }
        Err(error(
            Code::Forbidden,
            match is_possible {
                true => "what you may see has changed: subscribe again, from the last position seen",
                false => "you may not see this any more: ask an administrator of the tenant",
            },
        ))
    }
}
