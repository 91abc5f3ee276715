//! What is remembered of rules: bounded, by tenant, and forgotten by what the journal tells.
//!
//! Something that was read before its tenant changed is not kept after it: each tenant has a number that rises with every
//! change, and what was read under another number is thrown away.

use daybook_domain::TenantId;
use daybook_domain::platform::consent::Consent;
use daybook_domain::rules::{Explanation, Permissions, RoleRules};
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Members, roles and consents that are remembered, of each kind.
const HELD_MAX: NonZeroUsize = NonZeroUsize::new(200_000).unwrap();
/// Sets of roles whose rules are worked out.
const SHAPES_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();
/// Tenants whose changes are counted apart; beyond, all are forgotten at once.
const TENANTS_MAX: usize = 100_000;

/// Why somebody may or may not, and whether they are a member at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    pub explanation: Explanation,
    pub is_member: bool,
}

type Key = (TenantId, Uuid);
type Rules = (Option<Arc<RoleRules>>, u64);
/// Roles in their versions.
type Shape = (TenantId, Vec<(Uuid, u64)>);

/// What had changed when something was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Since {
    all: u64,
    /// Roles and consents of the tenant, and itself: many members depend on them.
    shared: u64,
    /// Anything of the tenant: what was read across a change is not kept.
    any: u64,
}

impl Since {
    fn still_holds(self, now: Since) -> bool {
        (self.all, self.shared) == (now.all, now.shared)
    }
}

#[derive(Default)]
struct Changes {
    all: u64,
    tenants: HashMap<TenantId, (u64, u64)>,
}

impl Changes {
    fn of(&self, tenant: TenantId) -> Since {
        let (shared, any) = self.tenants.get(&tenant).copied().unwrap_or_default();
        Since { all: self.all, shared, any }
    }
}

pub(super) struct Held {
    changes: Mutex<Changes>,
    /// What was read, and under which number.
    members: Mutex<LruCache<Key, (Arc<Permissions>, Since)>>,
    roles: Mutex<LruCache<Key, (Rules, Since)>>,
    consents: Mutex<LruCache<Key, (Arc<Consent>, Since)>>,
    shapes: Mutex<LruCache<Shape, Arc<Permissions>>>,
}

impl Default for Held {
    fn default() -> Self {
        Held {
            changes: Mutex::default(),
            members: Mutex::new(LruCache::new(HELD_MAX)),
            roles: Mutex::new(LruCache::new(HELD_MAX)),
            consents: Mutex::new(LruCache::new(HELD_MAX)),
            shapes: Mutex::new(LruCache::new(SHAPES_MAX)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// Notes a change of a stream; whether it is one that rules depend on.
    pub(super) fn forget(&self, tenant: TenantId, stream_type: &str, id: Uuid) -> bool {
        if !matches!(stream_type, "membership" | "role" | "consent" | "tenant") {
            return false;
        }
        let mut changes = lock(&self.changes);
        if changes.tenants.len() >= TENANTS_MAX && !changes.tenants.contains_key(&tenant) {
            changes.tenants.clear();
            changes.all += 1;
        }
        let (shared, any) = changes.tenants.entry(tenant).or_default();
        *any += 1;
        if stream_type == "membership" {
            lock(&self.members).pop(&(tenant, id));
        } else {
            *shared += 1;
        }
        true
    }

    pub(super) fn forget_all(&self) {
        lock(&self.changes).all += 1;
    }

    pub(super) fn since(&self, tenant: TenantId) -> Since {
        lock(&self.changes).of(tenant)
    }

    fn get<V: Clone>(&self, of: &Mutex<LruCache<Key, (V, Since)>>, key: Key) -> Option<V> {
        let now = self.since(key.0);
        let held = lock(of).get(&key).cloned();
        held.filter(|(_, since)| since.still_holds(now)).map(|(value, _)| value)
    }

    /// Not if anything has changed since it was read.
    fn keep<V>(&self, of: &Mutex<LruCache<Key, (V, Since)>>, key: Key, value: V, since: Since) {
        // Held until it is kept: a change that comes now finds it, or is found.
        let changes = lock(&self.changes);
        if changes.of(key.0) == since {
            lock(of).put(key, (value, since));
        }
    }

    pub(super) fn permissions(&self, tenant: TenantId, member: Uuid) -> Option<Arc<Permissions>> {
        self.get(&self.members, (tenant, member))
    }

    pub(super) fn role(&self, tenant: TenantId, id: Uuid) -> Option<Rules> {
        self.get(&self.roles, (tenant, id))
    }

    pub(super) fn keep_role(&self, tenant: TenantId, id: Uuid, rules: Rules, since: Since) {
        self.keep(&self.roles, (tenant, id), rules, since);
    }

    pub(super) fn consent(&self, customer: TenantId, id: Uuid) -> Option<Arc<Consent>> {
        self.get(&self.consents, (customer, id))
    }

    pub(super) fn keep_consent(&self, customer: TenantId, id: Uuid, consent: Arc<Consent>, since: Since) {
        self.keep(&self.consents, (customer, id), consent, since);
    }

    /// What the roles of a shape come to, worked out if nobody holds the same.
    pub(super) fn keep_permissions(
        &self,
        tenant: TenantId,
        member: Uuid,
        mut shape: Vec<(Uuid, u64)>,
        since: Since,
        compile: impl FnOnce() -> Permissions,
    ) -> Arc<Permissions> {
        shape.sort_unstable();
        let shape = (tenant, shape);
        let known = lock(&self.shapes).get(&shape).cloned();
        let permissions = known.unwrap_or_else(|| {
            let permissions = Arc::new(compile());
            lock(&self.shapes).put(shape, permissions.clone());
            permissions
        });
        self.keep(&self.members, (tenant, member), permissions.clone(), since);
        permissions
    }
}
