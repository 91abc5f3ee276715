//! `settingsHistory`: what a tenant's settings were, who changed them and when. Told by the audit trail, of which it is a part.

use super::detail::{Hidden, PageDetails};
use super::trail::{ActorKind, kind_of};
use crate::graphql::paging::{PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{at_least, parts, permit, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::{Connection, EmptyFields};
use async_graphql::{ComplexObject, Context, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_domain::Action;
use daybook_projections::audit::{self, AuditField, AuditRow};
use daybook_projections::engine::Lanes;
use daybook_projections::read::filter::{Filter, Test};
use daybook_projections::{Audit, Scope, SeriesModel};
use std::sync::Arc;
use uuid::Uuid;

/// A setting before and after.
#[derive(SimpleObject, Clone)]
pub struct SettingChange {
    /// E.g. `"invoice.due_days"`.
    pub key: String,
    /// Null where there was none.
    pub old: Option<Json<serde_json::Value>>,
    /// Null where it was removed.
    pub new: Option<Json<serde_json::Value>>,
    /// True when a role of yours hides the values: then both are null.
    pub masked: bool,
}

/// Settings that were changed together.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct SettingsChange {
    /// The moment of it.
    pub position: Position,
    pub changed_at: DateTime<Utc>,
    /// Who did it.
    pub actor: Option<Uuid>,
    pub actor_kind: Option<ActorKind>,
    /// The tenant's `version` after it.
    pub version: BigInt,
    #[graphql(skip)]
    event: Uuid,
    #[graphql(skip)]
    page: Arc<PageDetails>,
}

#[ComplexObject]
impl SettingsChange {
    /// What was changed, by key.
    async fn changes(&self, ctx: &Context<'_>) -> Result<Vec<SettingChange>> {
        let detail = self.page.of_event(ctx, self.event).await?;
        let hidden = Hidden::of(ctx, self.page.tenant(), "tenant")?;
        let of = |change: &daybook_app::audit::Change| match change.path.as_slice() {
            [settings, key] if settings == "settings" => {
                let seen = hidden.seen(change.into());
                Some(SettingChange { key: key.clone(), old: seen.old, new: seen.new, masked: seen.masked })
            }
            _ => None,
        };
        Ok(detail.changes.iter().filter_map(of).collect())
    }

    /// True when old values are left out because too many events would have to be read for this page.
    async fn truncated(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.page.of_event(ctx, self.event).await?.truncated)
    }
}

#[derive(Default)]
pub struct SettingsQuery;

#[Object]
impl SettingsQuery {
    /// Every change of a tenant's settings, newest first: who, when, old and new. Needs the permission `audit.read`.
    async fn settings_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose; your own tenant unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "How many, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Connection<String, SettingsChange, EmptyFields>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::AuditRead, tenant)?;
        let parts = parts(ctx)?;
        let list = format!("settingsHistory v1 {tenant}");
        let page = PageArgs::new(first, after, None, None)?.page(&parts.opaque, &list)?;
        let is = |field, value| Filter::Is(field, Test::Eq(value));
        let filter = Filter::And(vec![
            is(AuditField::Subject, tenant.0.into()),
            is(AuditField::EventType, "platform.tenant.settings_changed".into()),
        ]);
        self::at_least(ctx, &[Audit::NAME], Lanes::Of(tenant), at_least).await?;
        let read = parts
            .reads
            .reader()
            .transaction(Scope::Tenant(tenant), async |session| audit::page(session, tenant, &filter, &page).await);
        let slice = read.await.map_err(failed)?;
        let details = Arc::new(PageDetails::of(tenant, &slice.rows));
        connection(&parts.opaque, &list, slice, EmptyFields, AuditRow::cursor, |row| SettingsChange {
            position: Position(parts.opaque.position(tenant, row.tenant_position)),
            changed_at: row.recorded_at,
            actor: row.actor,
            actor_kind: kind_of(row.actor_kind.as_deref()),
            version: BigInt::from(row.sequence),
            event: row.event_id,
            page: details.clone(),
        })
    }
}
