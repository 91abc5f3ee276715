//! Read transactions: whose rows they show, and that they leave nothing behind.

use crate::harness::{World, registered};
use daybook_domain::TenantId;
use daybook_projections::platform::tenants::{self, TenantFilter};
use daybook_projections::{Model, ReadError, Scope, Tenants};
use daybook_store::database::Role;
use uuid::Uuid;

async fn with_two_tenants() -> (World, [TenantId; 2]) {
    let world = World::new().await;
    let (projections, task) = world.start(Model::of::<Tenants>());
    let tenants = [1, 2].map(|n| TenantId(Uuid::from_u128(n)));
    let mut last = 0;
    for tenant in tenants {
        last = world.append_tenant(tenant, 0, &[registered("Co", None)]).await;
    }
    world.reached(&projections, "tenants", last).await;
    projections.shutdown();
    task.await.unwrap();
    (world, tenants)
}

#[tokio::test]
async fn unset_tenant_sees_no_rows() {
    let (world, [one, _]) = with_two_tenants().await;
    let session = world.db.database().connect(Role::Reader, "").await.unwrap();
    for table in ["read.tenants_v1", "projection.changes", "journal.events"] {
        let count = session.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0, "{table}");
    }
    // Also on a session that was a tenant's a moment ago: there the setting is empty, not absent.
    let reader = daybook_projections::Reader::new(world.db.database(), 1);
    let before = reader.begin(Scope::Tenant(one)).await.unwrap();
    assert_eq!(tenants::count(&before, &TenantFilter::default()).await.unwrap(), 1);
    before.finish().await.unwrap();
    session
        .batch_execute("begin; select set_config('app.tenant', '', true), set_config('app.platform', '', true)")
        .await
        .unwrap();
    let count = session.query_one("select count(*) from read.tenants_v1", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_tenant_sees_itself_alone_and_the_platform_sees_all() {
    let (world, [one, two]) = with_two_tenants().await;
    // One session for all scopes: nothing of one operation reaches the next.
    let reader = daybook_projections::Reader::new(world.db.database(), 1);
    for (scope, sees) in [
        (Scope::Platform, vec![one, two]),
        (Scope::Tenant(one), vec![one]),
        (Scope::Platform, vec![one, two]),
        (Scope::Tenant(two), vec![two]),
        (Scope::Tenant(TenantId(Uuid::from_u128(3))), vec![]),
    ] {
        let session = reader.begin(scope).await.unwrap();
        assert_eq!(tenants::count(&session, &TenantFilter::default()).await.unwrap(), sees.len() as u64, "{scope:?}");
        for tenant in [one, two] {
            let found = tenants::tenant(&session, tenant).await.unwrap();
            assert_eq!(found.is_some(), sees.contains(&tenant), "{scope:?} {tenant}");
        }
        session.finish().await.unwrap();
    }
    let session = reader.begin(Scope::Tenant(two)).await.unwrap();
    assert_eq!(session.changes_after::<Tenants>(one, 0, 10).await.unwrap(), [], "another tenant's changes");
    assert_eq!(session.changes_after::<Tenants>(two, 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_operation_that_is_dropped_leaves_a_clean_session_behind() {
    let (world, [one, two]) = with_two_tenants().await;
    let reader = daybook_projections::Reader::new(world.db.database(), 1);
    for _ in 0..3 {
        let session = reader.begin(Scope::Tenant(one)).await.unwrap();
        session.query("select * from no_such_table", &[]).await.unwrap_err();
        drop(session);
        let failed: Result<(), ReadError> =
            reader.transaction(Scope::Platform, async |_| Err(ReadError::ForeignCursor)).await;
        assert!(matches!(failed, Err(ReadError::ForeignCursor)));
    }
    let session = reader.begin(Scope::Tenant(two)).await.unwrap();
    assert_eq!(tenants::count(&session, &TenantFilter::default()).await.unwrap(), 1);
    session.finish().await.unwrap();
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let (world, [one, _]) = with_two_tenants().await;
    let session = world.reader().begin(Scope::Tenant(one)).await.unwrap();
    let refused = session.query("delete from read.tenants_v1", &[]).await.unwrap_err();
    assert!(matches!(&refused, daybook_store::database::DatabaseError::Query(_)), "{refused}");
    drop(session);
    let session = world.db.database().connect(Role::Reader, "").await.unwrap();
    let refused = session.execute("delete from read.tenants_v1", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
}

#[tokio::test]
async fn before_the_first_start_there_is_no_read_model_and_it_says_so() {
    let world = World::new().await;
    let session = world.reader().begin(Scope::Platform).await.unwrap();
    assert!(matches!(tenants::count(&session, &TenantFilter::default()).await, Err(ReadError::NotBuilt("tenants"))));
}

#[tokio::test]
async fn an_operation_can_run_on_any_thread() {
    let (world, [one, _]) = with_two_tenants().await;
    let reader = world.reader();
    let task = tokio::spawn(async move {
        let body =
            async |session: &daybook_projections::ReadSession| tenants::count(session, &TenantFilter::default()).await;
        reader.transaction(Scope::Tenant(one), body).await
    });
    assert_eq!(task.await.unwrap().unwrap(), 1);
}
