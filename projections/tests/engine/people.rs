//! Sessions, service accounts and the memberships of an account: rows equal to a fold, and shown to whom they are of.

use crate::harness::World;
use daybook_domain::platform::service::Scope as KeyScope;
use daybook_domain::platform::session::{Ending, Method};
use daybook_domain::platform::{MembershipEvent, ServiceEvent, SessionEvent, TenantRole, membership_id};
use daybook_domain::value::{Name, Reason};
use daybook_domain::{AccountId, ApiKeyId, PLATFORM_TENANT, TenantId};
use daybook_projections::platform::{account_tenants, services, sessions};
use daybook_projections::{AccountTenants, Model, ReadModel, Scope, Services, Sessions};
use std::collections::BTreeSet;
use uuid::Uuid;

const ADA: AccountId = AccountId(Uuid::from_u128(0xADA));
const GRACE: AccountId = AccountId(Uuid::from_u128(0x66ACE));

fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(n))
}

fn reason() -> Reason {
    Reason::parse("because").unwrap()
}

#[tokio::test]
async fn an_account_sees_its_memberships_in_every_tenant_and_nobody_elses() {
    let world = World::new().await;
    let (projections, _) = world.start(Model::of::<AccountTenants>());
    let mut last = 0;
    for n in 1..=3 {
        for account in [ADA, GRACE] {
            let added = MembershipEvent::Added {
                account,
                roles: BTreeSet::from([TenantRole::Member]),
                custom: BTreeSet::new(),
            };
            let id = membership_id(tenant(n), account).0;
            last = world.append_events(tenant(n), "membership", id, 0, &[added]).await;
        }
    }
    let gone = membership_id(tenant(2), ADA).0;
    let ended = MembershipEvent::Ended { reason: reason() };
    last = last.max(world.append_events(tenant(2), "membership", gone, 1, &[ended]).await);
    world.reached(&projections, AccountTenants::NAME, last).await;
    let session = world.reader().begin(Scope::Account(ADA)).await.unwrap();
    let own = account_tenants::of_account(&session, ADA).await.unwrap();
    assert_eq!(own.iter().map(|row| row.tenant_id).collect::<Vec<_>>(), [tenant(1).0, tenant(3).0]);
    // The backstop: whatever is asked for.
    assert_eq!(account_tenants::of_account(&session, GRACE).await.unwrap(), []);
    let table = session.table::<AccountTenants>().unwrap();
    let all = session.query(&format!("select account_id from {table}"), &[]).await.unwrap();
    assert!(all.len() == 3 && all.iter().all(|row| row.get::<_, Uuid>(0) == ADA.0));
    session.finish().await.unwrap();
    for scope in [Scope::Tenant(tenant(1)), Scope::Platform] {
        let session = world.reader().begin(scope).await.unwrap();
        assert_eq!(account_tenants::of_account(&session, ADA).await.unwrap(), [], "{scope:?}");
        session.finish().await.unwrap();
    }
}

#[tokio::test]
async fn the_open_sessions_of_an_account_are_those_of_its_generation_that_have_not_ended() {
    let world = World::new().await;
    let (projections, _) = world.start(Model::of::<Sessions>());
    let late = chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap();
    let started = |account, account_generation| SessionEvent::Started {
        account,
        tenant: tenant(1),
        membership: Some(membership_id(tenant(1), account)),
        method: Method::Password,
        account_generation,
        expires_at: late,
    };
    let append = async |n: u128, events: &[SessionEvent]| {
        world.append_events(PLATFORM_TENANT, "session", Uuid::from_u128(n), 0, events).await
    };
    append(1, &[started(ADA, 1), SessionEvent::Ended { how: Ending::LoggedOut }]).await;
    append(2, &[started(ADA, 0)]).await;
    append(3, &[started(GRACE, 1)]).await;
    append(4, &[started(ADA, 1)]).await;
    let moved = SessionEvent::TenantSwitched { tenant: PLATFORM_TENANT, membership: None };
    let last = append(5, &[started(ADA, 1), SessionEvent::Refreshed { generation: 1 }, moved]).await;
    world.reached(&projections, Sessions::NAME, last).await;
    let session = world.reader().begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    let now = chrono::DateTime::UNIX_EPOCH;
    let open = sessions::open(&session, ADA, 1, now, now).await.unwrap();
    let shown: Vec<_> = open.iter().map(|row| (row.session_id, row.in_tenant_id, row.version)).collect();
    let [four, five] = [4, 5].map(Uuid::from_u128);
    assert_eq!(shown, [(five, PLATFORM_TENANT.0, 3), (four, tenant(1).0, 1)]);
    assert_eq!(sessions::open(&session, ADA, 1, now, late).await.unwrap(), [], "the clock ends them all");
    assert_eq!(sessions::open(&session, ADA, 1, late, now).await.unwrap(), [], "and so does disuse");
    session.finish().await.unwrap();
    let foreign = world.reader().begin(Scope::Tenant(tenant(1))).await.unwrap();
    assert_eq!(sessions::open(&foreign, ADA, 1, now, now).await.unwrap(), []);
    foreign.finish().await.unwrap();
}

#[tokio::test]
async fn a_service_account_is_shown_with_its_keys_in_their_order() {
    let world = World::new().await;
    let (projections, _) = world.start(Model::of::<Services>());
    let (old, new) = (ApiKeyId(Uuid::from_u128(1)), ApiKeyId(Uuid::from_u128(2)));
    let until = chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap();
    let events = [
        ServiceEvent::Registered { name: Name::parse("Meter").unwrap(), roles: BTreeSet::from([TenantRole::Member]) },
        ServiceEvent::KeyIssued {
            key: old,
            scopes: BTreeSet::from([KeyScope::parse("device.list").unwrap()]),
            expires_at: None,
        },
        ServiceEvent::KeyRotated { old, new, overlap_until: until, expires_at: None },
        ServiceEvent::KeyRevoked { key: new, reason: reason() },
    ];
    let id = Uuid::from_u128(9);
    let last = world.append_events(tenant(1), "service", id, 0, &events).await;
    world.reached(&projections, Services::NAME, last).await;
    let session = world.reader().begin(Scope::Tenant(tenant(1))).await.unwrap();
    let row = services::service(&session, tenant(1), id).await.unwrap().expect("a row");
    let keys: Vec<_> = row.keys.iter().map(|key| (key.id, key.expires_at, key.revoked_at.is_some())).collect();
    assert_eq!(keys, [(old.0, Some(until), false), (new.0, None, true)]);
    assert!(row.keys.iter().all(|key| key.scopes.contains("device.list")));
    assert_eq!(services::service(&session, tenant(2), id).await.unwrap(), None);
    session.finish().await.unwrap();
}
