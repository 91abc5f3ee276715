//! A journal with keys, an engine beside it, and histories of tenants to write.

use cqrs_es::{Aggregate, DomainEvent};
use daybook_domain::EventSourced;
use daybook_domain::platform::tenant::{Contact, Plan, Reason, SettingKey, SettingValue};
use daybook_domain::platform::{Tenant, TenantCommand, TenantEvent};
use daybook_domain::value::{Domain, Name};
use daybook_domain::{Actor, ActorKind, Context, EventIds, Personal, SubjectId, TenantId};
use daybook_projections::engine::{Lanes, Options};
use daybook_projections::{Model, Parts, Projections, Reader};
use daybook_store::codec;
use daybook_store::database::Role;
use daybook_store::journal::follow::Source;
use daybook_store::journal::machine::Config;
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{Append, Journal, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, command, system, test_config};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) db: TestDatabase,
    pub(crate) journal: Journal,
    pub(crate) sealer: Sealer,
    pub(crate) options: Options,
    _keys: tempfile::TempDir,
    _writer: JoinHandle<()>,
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Awaits a condition that nobody announces.
pub(crate) async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let deadline = soon();
    while !condition().await {
        assert!(Instant::now() < deadline, "the condition did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(TestDatabase::new().await, test_config()).await
    }

    pub(crate) async fn on(db: TestDatabase, writer: Config) -> Self {
        let (journal, writer) = db.journal_with(writer).await;
        let keys = tempfile::tempdir().unwrap();
        let files = KeyFiles::open(&keys.path().join("keys"), true, "daybook.test", &Real).unwrap();
        let store = KeyStore::new(db.database().pool(Role::Writer, 4, ""), Arc::new(files), system());
        let sealer = Sealer::new(Arc::new(store), system());
        let options = Options {
            page: 20,
            batch_max: 20,
            bulk_max: 50,
            retry_min: Duration::from_millis(5),
            retry_max: Duration::from_millis(50),
            unpark_min: Duration::from_millis(5),
            unpark_max: Duration::from_millis(50),
            ..Options::default()
        };
        World { db, journal, sealer, options, _keys: keys, _writer: writer }
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts {
            database: self.db.database().clone(),
            source: Source::Recent(Recent::start(self.db.database().clone(), self.journal.durable()).0),
            sealer: self.sealer.clone(),
            system: system(),
            options: self.options.clone(),
        }
    }

    pub(crate) fn start(&self, model: Model) -> (Projections, JoinHandle<()>) {
        Projections::start(self.parts(), &[model])
    }

    pub(crate) fn start_all(&self, models: &[Model]) -> (Projections, JoinHandle<()>) {
        Projections::start(self.parts(), models)
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.db.database(), 4)
    }

    /// Appends events to a stream; gives back the journal position of the last.
    pub(crate) async fn append(
        &self,
        tenant: TenantId,
        kind: &'static str,
        id: Uuid,
        expected: u64,
        events: Vec<NewEvent>,
    ) -> u64 {
        let append = Append {
            tenant,
            command: command(tenant),
            streams: vec![StreamAppend { stream: StreamId { kind, id }, expected, events }],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        };
        self.journal.append(append, Known::default()).await.unwrap().last_position
    }

    pub(crate) async fn append_tenant(&self, tenant: TenantId, expected: u64, events: &[TenantEvent]) -> u64 {
        self.append_events(tenant, "tenant", tenant.0, expected, events).await
    }

    /// Seals and appends events of any aggregate.
    pub(crate) async fn append_events<E: DomainEvent>(
        &self,
        tenant: TenantId,
        kind: &'static str,
        id: Uuid,
        expected: u64,
        events: &[E],
    ) -> u64 {
        let mut sealed = Vec::new();
        for event in events {
            let encoded = codec::encode(event).unwrap();
            let event_id = Real.uuid_v7();
            let payload = self.sealer.seal(tenant, event_id, encoded.payload).await.unwrap();
            let (event_type, event_version) = (encoded.event_type, encoded.event_version);
            sealed.push(NewEvent { event_id, event_type, event_version, payload, metadata: "{}".into() });
        }
        self.append(tenant, kind, id, expected, sealed).await
    }

    /// Waits until every lane of a read model has seen a position.
    pub(crate) async fn reached(&self, projections: &Projections, read_model: &str, position: u64) {
        projections.progress().wait(read_model, Lanes::All, position, soon()).await.unwrap();
    }
}

/// Tenants whose histories are decided by the domain, from random commands.
pub(crate) struct Histories {
    pub(crate) rng: StdRng,
    pub(crate) tenants: BTreeMap<TenantId, (Tenant, u64)>,
}

impl Histories {
    pub(crate) fn new(seed: u64, tenants: u128) -> Self {
        let ids = (1..=tenants).map(|n| (TenantId(Uuid::from_u128(n << 64 | 7)), (Tenant::default(), 0)));
        Histories { rng: StdRng::seed_from_u64(seed), tenants: ids.collect() }
    }

    /// Carries out a random command of a random tenant; the position of the last event, if any.
    pub(crate) async fn step(&mut self, world: &World) -> Option<u64> {
        let nth = self.rng.random_range(0..self.tenants.len());
        let tenant = *self.tenants.keys().nth(nth)?;
        let command = any_command(&mut self.rng, tenant);
        let (state, version) = self.tenants.get_mut(&tenant)?;
        let context = Context {
            id: tenant.0,
            tenant,
            actor: Actor { id: Uuid::nil(), kind: ActorKind::System },
            now: chrono::DateTime::UNIX_EPOCH,
            ids: EventIds { seed: Uuid::nil() },
        };
        let events = state.decide(&context, command).unwrap_or_default();
        if events.is_empty() {
            return None;
        }
        let position = world.append_tenant(tenant, *version, &events).await;
        *version += events.len() as u64;
        events.into_iter().for_each(|event| state.apply(event));
        Some(position)
    }

    /// Goes on until so many positions have been written.
    pub(crate) async fn write(&mut self, world: &World, appends: usize) -> u64 {
        let (mut done, mut last, mut tries) = (0, 0, 0);
        while done < appends {
            tries += 1;
            assert!(tries < appends * 50, "there is hardly a tenant left that is not closed");
            if let Some(position) = self.step(world).await {
                (done, last) = (done + 1, position);
            }
        }
        last
    }
}

pub(crate) fn registered(name: &str, contact: Option<Personal<Contact>>) -> TenantEvent {
    TenantEvent::Registered { name: Name::parse(name).unwrap(), plan: Plan::Free, contact, domain: None }
}

pub(crate) fn contact(subject: u128, name: &str) -> Personal<Contact> {
    Personal::known(SubjectId(Uuid::from_u128(subject)), Contact::parse(name, "ada@example.com").unwrap())
}

fn any_command(rng: &mut impl Rng, tenant: TenantId) -> TenantCommand {
    use TenantCommand as C;
    let name = Name::parse(["Äther", "beta", "Beta", "Ωmega", "zulu"][rng.random_range(0..5)]).unwrap();
    let plan = Plan::ALL[rng.random_range(0..Plan::ALL.len())];
    let reason = Reason::parse("because").unwrap();
    let person = rng.random_range(0..3u128);
    let somebody = (person > 0).then(|| contact(tenant.0.as_u128() + person, "Ada"));
    let key = SettingKey::parse(["a", "b.c", "d"][rng.random_range(0..3)]).unwrap();
    let value = match rng.random_range(0..3) {
        0 => SettingValue::Flag(rng.random_range(0..2) == 0),
        1 => SettingValue::Whole(i64::MIN + rng.random_range(0..5)),
        _ => SettingValue::text("\"quoted\" \\ ü").unwrap(),
    };
    match rng.random_range(0..20) {
        0..=3 => C::Register { name, plan, contact: somebody, domain: Domain::parse("x.example").ok() },
        4..=6 => C::Rename { name },
        7..=9 => C::ChangePlan { plan },
        10..=12 => C::ChangeSettings { set: [(key, value)].into(), unset: Default::default() },
        13 => C::ChangeSettings { set: Default::default(), unset: [key].into() },
        14..=15 => C::ChangeContact { contact: somebody },
        16..=17 => C::Suspend { reason },
        18 => C::Reopen,
        _ => C::Close { reason },
    }
}
