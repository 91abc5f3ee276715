//! Readings as they come in: every event of a device after a position, without gap or duplicate, then those to come.

use super::devices::{one, row};
use super::readings::{READ_MODELS, Reading, zone};
use crate::graphql::Parts;
use crate::graphql::audit::events::HeardEvent;
use crate::graphql::errors::{Code, error};
use crate::graphql::guard::guarded;
use crate::graphql::reads::failed;
use crate::graphql::request::{parts, resume, tenant_of};
use crate::graphql::scalars::Position;
use crate::graphql::sight::{Sight, permit_some};
use crate::graphql::tail::{self, Heard, Listener, Listeners, Page};
use async_graphql::{Context, Error, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use daybook_domain::{Action, TenantId};
use daybook_projections::audit::AuditField;
use daybook_projections::energy::live::{PAGE, Recorded, recorded, recorded_after};
use daybook_projections::energy::readings::ReadingRow;
use daybook_projections::engine::Lanes;
use daybook_projections::read::filter::{Filter, Test};
use daybook_projections::{ReadError, Scope};
use daybook_store::journal::RecordedEvent;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use std::sync::Arc;
use uuid::Uuid;

/// Readings of a device that were accepted together.
#[derive(SimpleObject, Clone, Debug)]
pub struct ReadingsRecorded {
    /// Resume after this with `after`.
    pub position: Position,
    /// Id of the device.
    pub device: Uuid,
    /// In order of time; at most a day of them.
    pub readings: Vec<Reading>,
    /// When they were recorded.
    pub recorded_at: DateTime<Utc>,
}

/// The wish is a device's id.
impl Heard for Recorded {
    type Wish = Uuid;
    const PAGE: u64 = PAGE;

    fn listeners(parts: &Parts) -> &Listeners<Self> {
        &parts.tails.readings
    }

    async fn page(
        parts: &Parts,
        tenant: TenantId,
        device: &Uuid,
        after: u64,
        up_to: u64,
    ) -> Result<Page<Self>, ReadError> {
        let read = parts.reads.reader().transaction(Scope::Tenant(tenant), async |session| {
            recorded_after(session, tenant, *device, after, up_to).await
        });
        let page = read.await?;
        Ok(Page { heard: page.recorded, up_to: page.up_to })
    }

    fn of(_: TenantId, events: Vec<RecordedEvent>) -> Result<Vec<Self>, ReadError> {
        events.iter().filter_map(|event| recorded(event).transpose()).collect()
    }

    fn tenant_position(&self) -> u64 {
        self.tenant_position
    }

    fn is_wanted(&self, device: &Uuid) -> bool {
        self.device == *device
    }
}

/// A device that leaves the caller's sight takes its readings with it: the stream says that it is gone, as soon as it is and
/// nothing of what it has become, and ends.
fn while_seen(
    parts: Arc<Parts>,
    tenant: TenantId,
    device: Uuid,
    sight: Sight,
    recorded: impl Stream<Item = Result<Recorded>> + Send + 'static,
) -> BoxStream<'static, Result<Recorded>> {
    if !sight.is_partial() {
        // Whatever it becomes, it is seen.
        return recorded.boxed();
    }
    let of_device = Filter::And(vec![
        Filter::Is(AuditField::SubjectType, Test::Eq("device".into())),
        Filter::Is(AuditField::Subject, Test::Eq(device.into())),
    ]);
    let listening = parts.clone();
    let moved = futures_util::stream::once(async move {
        let durable = listening.executor.journal().durable().borrow().position;
        let after = tail::head(&listening, tenant, durable).await.map_err(failed)?;
        let listener = Listener::<HeardEvent>::new(listening, tenant, of_device, after);
        let changes = futures_util::stream::unfold(Some(listener), |listener| async move {
            let mut listener = listener?;
            match listener.next().await {
                Ok(event) => Some((Ok(Told::Changed(event.tenant_position())), Some(listener))),
                Err(error) => Some((Err(failed(error)), None)),
            }
        });
        // Since the device was found, it may have left already.
        Ok::<_, Error>(futures_util::stream::once(std::future::ready(Ok(Told::Changed(after)))).chain(changes))
    });
    let told = futures_util::stream::select(recorded.map(|recorded| recorded.map(Told::Recorded)), moved.try_flatten());
    let checked = told.then(move |told| {
        let (parts, sight) = (parts.clone(), sight.clone());
        async move {
            let told = told?;
            // As the device was when this happened, or later.
            let at = match &told {
                Told::Recorded(recorded) => recorded.tenant_position,
                Told::Changed(at) => *at,
            };
            if let Some(at) = parts.reads.resolve(parts.executor.journal(), tenant, at).await? {
                parts.reads.wait(super::devices::READ_MODELS, Lanes::Of(tenant), at).await?;
            }
            if !row(&parts, tenant, device).await?.is_some_and(|row| sight.shows(&row)) {
                return Err(error(Code::NotFound, "there is no such device any more that you may see"));
            }
            Ok(match told {
                Told::Recorded(recorded) => Some(recorded),
                Told::Changed(_) => None,
            })
        }
    });
    checked.filter_map(|told| std::future::ready(told.transpose())).boxed()
}

/// What is heard of a device.
enum Told {
    Recorded(Recorded),
    /// The device itself has changed, at a tenant position.
    Changed(u64),
}

#[derive(Default)]
pub struct ReadingsSubscription;

#[Subscription]
impl ReadingsSubscription {
    /// Every reading of a device that was recorded after a position, in the order in which they were recorded, then
    /// those to come. Without `after`, from now on. Needs the permission `readings.read`.
    async fn readings(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the device.")] device: Uuid,
        #[graphql(desc = "The tenant of the device; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "The last position you have seen.")] after: Option<Position>,
    ) -> Result<impl Stream<Item = Result<ReadingsRecorded>> + use<>> {
        let tenant = tenant_of(ctx, tenant)?;
        let sight = permit_some(ctx, Action::ReadingsRead, tenant).await?;
        let parts = parts(ctx)?.clone();
        // A device that is registered but not shown yet: its own writes show first.
        crate::graphql::request::at_least(ctx, super::devices::READ_MODELS, Lanes::Of(tenant), None).await?;
        let found = one(ctx, tenant, device, &sight).await?;
        let found = found.ok_or_else(|| error(Code::NotFound, "there is no such device: check its id and tenant"))?;
        let zone = zone(&found.site.time_zone)?;
        let after = match after {
            None => parts.reads.head(READ_MODELS[0], tenant).await?,
            Some(position) => resume(ctx, tenant, position)?,
        };
        let listener = Listener::<Recorded>::new(parts.clone(), tenant, device, after);
        let events = futures_util::stream::unfold(Some(listener), move |listener| async move {
            let mut listener = listener?;
            match listener.next().await {
                Ok(recorded) => Some((Ok(recorded), Some(listener))),
                // The error is the last word: what comes after it would have a gap.
                Err(error) => Some((Err(failed(error)), None)),
            }
        });
        let events = while_seen(parts.clone(), tenant, device, sight.clone(), events);
        let events = events.map(move |recorded: Result<Recorded>| {
            let recorded = recorded?;
            let readings = recorded.rows.iter().map(|row| {
                let row = ReadingRow { start: row.start, energy_wh: row.energy_wh, quality: row.quality };
                Reading::of(row, &zone)
            });
            Ok(ReadingsRecorded {
                position: Position(parts.opaque.position(tenant, recorded.tenant_position)),
                device,
                readings: readings.collect(),
                recorded_at: recorded.recorded_at,
            })
        });
        guarded(ctx, Action::ReadingsRead, tenant, sight, events)
    }
}
