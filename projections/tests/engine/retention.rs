//! Change rows: what they say, and what happens once they are gone.

use crate::harness::{Histories, World, contact, registered, soon};
use chrono::TimeDelta;
use daybook_domain::TenantId;
use daybook_domain::platform::TenantEvent;
use daybook_domain::value::Name;
use daybook_projections::engine::{Lanes, purge};
use daybook_projections::platform::tenants;
use daybook_projections::{Model, ReadError, Scope, Tenants};
use daybook_store::database::Role;
use std::time::Duration;
use uuid::Uuid;

const TENANT: TenantId = TenantId(Uuid::from_u128(5));

#[tokio::test]
async fn change_rows_tell_every_step_between_the_first_row_and_the_last() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    let mut histories = Histories::new(2, 25);
    let last = histories.write(&world, 150).await;
    world.reached(&projections, "tenants", last).await;
    let mut events = 0;
    for (tenant, (_, version)) in &histories.tenants {
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        let (mut row, mut after) = (None, 0);
        loop {
            // In small pages: each goes on exactly where the last one ended.
            let changes = session.changes_after::<Tenants>(*tenant, after, 3).await.unwrap();
            let Some(end) = changes.last() else { break };
            after = end.tenant_position;
            for change in changes {
                assert_eq!(change.before, row);
                assert_eq!(change.after.as_ref().map(|row| row.tenant_position), Some(change.tenant_position as i64));
                assert_eq!(change.key, tenant.0);
                row = change.after;
                events += 1;
            }
        }
        assert_eq!(after, *version, "a tenant's stream is all there is in these tenants");
        assert_eq!(row, tenants::tenant(&session, *tenant).await.unwrap());
        session.finish().await.unwrap();
    }
    assert_eq!(events, last);
}

#[tokio::test]
async fn what_was_purged_is_refused_by_name_and_the_rest_goes_on() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    world.append_tenant(TENANT, 0, &[registered("Old", None)]).await;
    let renamed = |name: &str| TenantEvent::Renamed { name: Name::parse(name).unwrap() };
    let first = world.append_tenant(TENANT, 1, &[renamed("New")]).await;
    let other = TenantId(Uuid::from_u128(6));
    let last = world.append_tenant(other, 0, &[registered("Other", None)]).await;
    world.reached(&projections, "tenants", last).await;
    let session = world.db.superuser().await;
    let between = session
        .query_one("select recorded_at from journal.events where position = $1", &[&(first as i64)])
        .await
        .unwrap();
    // As if an hour had passed in between.
    session
        .execute(
            "update projection.changes set recorded_at = recorded_at - interval '1 hour' where position <= $1",
            &[&(first as i64)],
        )
        .await
        .unwrap();
    let pool = world.db.database().pool(Role::Projector, 1, "");
    let before = between.get::<_, chrono::DateTime<chrono::Utc>>(0) - TimeDelta::minutes(1);
    assert_eq!(purge(&pool, "tenants", before).await.unwrap(), 2);
    assert_eq!(purge(&pool, "tenants", before).await.unwrap(), 0);

    let reading = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let expired = reading.changes_after::<Tenants>(TENANT, 1, 10).await;
    assert!(matches!(expired, Err(ReadError::CursorExpired { purged: 2 })), "{expired:?}");
    assert_eq!(reading.changes_after::<Tenants>(TENANT, 2, 10).await.unwrap(), []);
    reading.finish().await.unwrap();
    let reading = world.reader().begin(Scope::Tenant(other)).await.unwrap();
    assert_eq!(reading.changes_after::<Tenants>(other, 0, 10).await.unwrap().len(), 1);
    reading.finish().await.unwrap();
    let last = world.append_tenant(TENANT, 2, &[renamed("Newer")]).await;
    world.reached(&projections, "tenants", last).await;
    let reading = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let changes = reading.changes_after::<Tenants>(TENANT, 2, 10).await.unwrap();
    assert_eq!(changes.iter().map(|c| c.tenant_position).collect::<Vec<_>>(), [3]);
    reading.finish().await.unwrap();
}

#[tokio::test]
async fn changes_older_than_the_retention_are_marked_as_gone_when_first_applied() {
    let mut world = World::new().await;
    world.options.retention = Duration::ZERO;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    let last = world.append_tenant(TENANT, 0, &[registered("Old", None)]).await;
    world.reached(&projections, "tenants", last).await;
    let reading = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let expired = reading.changes_after::<Tenants>(TENANT, 0, 10).await;
    assert!(matches!(expired, Err(ReadError::CursorExpired { purged: 1 })), "{expired:?}");
    reading.finish().await.unwrap();
}

#[tokio::test]
async fn a_wait_gives_ones_own_write_and_a_subscription_wakes_with_it() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    let progress = projections.progress().clone();
    let woken = tokio::spawn(async move { progress.past("tenants", Lanes::Of(TENANT), 0).await });
    for n in 0..20 {
        let name = format!("Name {n}");
        let event = match n {
            0 => registered(&name, Some(contact(1, "Ada"))),
            _ => TenantEvent::Renamed { name: Name::parse(&name).unwrap() },
        };
        let position = world.append_tenant(TENANT, n, &[event]).await;
        projections.progress().wait("tenants", Lanes::Of(TENANT), position, soon()).await.unwrap();
        let found = world
            .reader()
            .transaction(Scope::Tenant(TENANT), async |session| tenants::tenant(session, TENANT).await)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((found.name, found.version), (name, n as i64 + 1));
        assert_eq!(found.contact_name.as_deref(), Some("Ada"));
    }
    assert!(woken.await.unwrap().unwrap() >= 1);
}

#[tokio::test]
async fn a_person_who_was_erased_is_gone_from_a_rebuilt_row() {
    let world = World::new().await;
    let (projections, task) = world.start(Model::of::<Tenants>());
    let ada = contact(1, "Ada");
    let last = world.append_tenant(TENANT, 0, &[registered("Co", Some(ada.clone()))]).await;
    world.reached(&projections, "tenants", last).await;
    world.sealer.keys().erase(TENANT, ada.subject()).await.unwrap();
    projections.shutdown();
    task.await.unwrap();
    Model::of::<Tenants>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let row = tenants::tenant(&session, TENANT).await.unwrap().unwrap();
    assert_eq!((row.contact_name, row.contact_email, row.contact_erased), (None, None, true));
    assert_eq!(row.contact_subject, Some(ada.subject().0));
    let changes = session.changes_after::<Tenants>(TENANT, 0, 10).await.unwrap();
    assert!(changes.iter().all(|c| c.after.as_ref().is_some_and(|row| row.contact_name.is_none())));
    session.finish().await.unwrap();
}
