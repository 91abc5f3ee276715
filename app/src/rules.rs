//! What callers hold: the roles of a tenant's making, and consents of other tenants, read from the journal and remembered.
//!
//! What several roles come to is worked out once for everybody who holds the same roles in the same versions. What is remembered is
//! forgotten when the journal says that a membership, a role, a consent or a tenant has changed, on every node; whoever must know at once
//! (a subscription) waits for [`Rules::changed`]. Refuses to answer from memory that may be older than what it was told.

mod held;

use crate::authorize::Credential;
use crate::executor::{ExecuteError, Executor};
use daybook_domain::platform::consent::{Consent, ConsentError, ConsentOf, consent_id};
use daybook_domain::platform::membership::{Membership, MembershipError, RoleName, membership_id};
use daybook_domain::platform::role::{DefinedRole, RoleError, role_id};
use daybook_domain::platform::tenant::{Tenant, TenantError};
use daybook_domain::rules::{Permissions, RoleRules, Verdict, find};
use daybook_domain::{AccountId, Action, ActorKind, EventSourced, PLATFORM_TENANT, Role, TenantId};
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{AppendError, StreamId, StreamKey};
use daybook_store::system::SharedSystem;
use held::Held;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use held::Explained;

/// Events that are looked at together.
const PAGE: u64 = 500;
/// How long the journal is left alone after an error.
const PAUSE: Duration = Duration::from_millis(200);

/// Why it cannot be told what somebody may do: nothing is permitted then.
#[derive(Debug, thiserror::Error)]
#[error("the rules cannot be read")]
pub struct Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Unreadable {
    /// Whether it passes by itself.
    pub fn is_passing(&self) -> bool {
        self.0.downcast_ref::<AppendError>().is_some()
    }
}

/// A shared handle; cloning is cheap.
#[derive(Clone)]
pub struct Rules {
    executor: Executor,
    held: Arc<Held>,
    changes: Arc<watch::Sender<u64>>,
    /// Up to where the journal has been followed.
    seen: Arc<watch::Sender<u64>>,
    system: SharedSystem,
}

impl Rules {
    /// Nothing is forgotten until somebody follows the journal: see [`Rules::follow`].
    pub fn new(executor: Executor, system: SharedSystem) -> Self {
        let turning = || Arc::new(watch::channel(0).0);
        Rules { executor, held: Arc::default(), changes: turning(), seen: turning(), system }
    }

    /// Forgets what the journal says has changed, for as long as the task runs.
    pub fn follow(&self, recent: Recent) -> JoinHandle<()> {
        let rules = self.clone();
        tokio::spawn(async move {
            // From the first word of the writer on; before it, what is at the head is not known.
            if recent.durable().clone().wait_for(|durable| durable.position > 0).await.is_err() {
                return;
            }
            let mut follower = recent.follow_from_now(PAGE).only(is_about_rules);
            rules.held.forget_all();
            loop {
                rules.seen.send_replace(follower.position());
                match follower.next().await {
                    Ok(events) => {
                        for event in &events {
                            rules.held.forget(event.tenant, &event.stream_type, event.stream_id);
                        }
                        if !events.is_empty() {
                            rules.changes.send_modify(|changes| *changes += 1);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "changes of rules are told later");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
    }

    /// Notes a change that was written on this node, so that the next request sees it; other nodes are told by the journal.
    pub fn wrote(&self, tenant: TenantId, stream_type: &str, id: Uuid) {
        if self.held.forget(tenant, stream_type, id) {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Waits until all changes up to a position of the journal count.
    pub async fn caught_up(&self, position: u64) {
        // An error would mean that this very handle is gone.
        let _ = self.seen.subscribe().wait_for(|seen| *seen >= position).await;
    }

    /// Turns whenever something may be permitted otherwise than before.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A credential with what its actor's roles in its tenant come to.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub async fn complete(&self, credential: Credential) -> Result<Credential, Unreadable> {
        if credential.actor.kind != ActorKind::Account || credential.tenant == PLATFORM_TENANT {
            return Ok(credential);
        }
        let permissions = self.of_member(credential.tenant, AccountId(credential.actor.id)).await?;
        Ok(credential.with_permissions(permissions))
    }

    /// What the tenant's own roles come to that an account holds in it.
    async fn of_member(&self, tenant: TenantId, account: AccountId) -> Result<Arc<Permissions>, Unreadable> {
        let id = membership_id(tenant, account).0;
        if let Some(permissions) = self.held.permissions(tenant, id) {
            return Ok(permissions);
        }
        let since = self.held.since(tenant);
        let member: Membership = self.state::<_, MembershipError>(tenant, id).await?.0;
        let keys: Vec<RoleName> = member.custom_roles().cloned().collect();
        let mut shape: Vec<(Uuid, u64)> = Vec::with_capacity(keys.len());
        let mut roles: Vec<Arc<RoleRules>> = Vec::with_capacity(keys.len());
        for key in &keys {
            let id = role_id(tenant, key);
            let (rules, version) = match self.held.role(tenant, id) {
                Some(held) => held,
                None => {
                    let (role, version) = self.state::<DefinedRole, RoleError>(tenant, id).await?;
                    let held = (role.rules().map(Arc::new), version);
                    self.held.keep_role(tenant, id, held.clone(), since);
                    held
                }
            };
            shape.push((id, version));
            roles.extend(rules);
        }
        let compile = || Permissions::compile(roles, find);
        Ok(self.held.keep_permissions(tenant, id, shape, since, compile))
    }

    /// What another tenant has consented to that the caller's may read, now.
    async fn consent(&self, customer: TenantId, provider: TenantId) -> Result<Option<ConsentOf>, Unreadable> {
        let id = consent_id(customer, provider);
        let consent = match self.held.consent(customer, id) {
            Some(consent) => consent,
            None => {
                let since = self.held.since(customer);
                // Nothing of a tenant that is suspended or closed is read by others than the platform.
                let open = matches!(self.state::<_, TenantError>(customer, customer.0).await?.0, Tenant::Active { .. });
                let consent = match open {
                    true => Arc::new(self.state::<Consent, ConsentError>(customer, id).await?.0),
                    false => Arc::default(),
                };
                self.held.keep_consent(customer, id, consent.clone(), since);
                consent
            }
        };
        // The clock, not an event, ends it.
        Ok(consent.at(self.system.utc()).cloned())
    }

    /// As [`crate::verdict`], where other tenants may have consented to being read.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub async fn verdict(
        &self,
        credential: &Credential,
        action: Action,
        target: TenantId,
    ) -> Result<Verdict, Unreadable> {
        let verdict = crate::authorize::verdict(credential, action, target);
        if target == credential.tenant
            || verdict.is_possible()
            || !crate::may(credential, Action::ConsentUse, credential.tenant)
        {
            return Ok(verdict);
        }
        let consent = self.consent(target, credential.tenant).await?;
        Ok(match consent.filter(|consent| consent.scope.covers(action)) {
            Some(consent) => Verdict::of(consent.scope.condition()),
            None => Verdict::Never,
        })
    }

    /// Until when a verdict that rests on a consent can hold; none where it rests on none.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub async fn until(
        &self,
        credential: &Credential,
        target: TenantId,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, Unreadable> {
        if target == credential.tenant {
            return Ok(None);
        }
        Ok(self.consent(target, credential.tenant).await?.map(|consent| consent.until))
    }

    /// Why an account of a tenant may do something there, or may not. `granted`: roles of modules that it holds besides.
    /// `record`: the fields of the record it is about.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub async fn explain(
        &self,
        tenant: TenantId,
        account: AccountId,
        action: &str,
        granted: Vec<Arc<RoleRules>>,
        record: &(impl daybook_domain::condition::Record + ?Sized),
    ) -> Result<Explained, Unreadable> {
        let id = membership_id(tenant, account).0;
        let member: Membership = self.state::<_, MembershipError>(tenant, id).await?.0;
        let mut permissions = self.of_member(tenant, account).await?;
        if !granted.is_empty() {
            let held = permissions.roles().iter().cloned().chain(granted).collect();
            permissions = Arc::new(Permissions::compile(held, find));
        }
        let roles: Vec<Role> = member.roles().map(Role::from).collect();
        let actor = daybook_domain::Actor { id: account.0, kind: ActorKind::Account };
        let credential = Credential::new(actor, tenant, roles.clone(), None).with_permissions(permissions.clone());
        let known = Action::ALL.iter().copied().find(|known| known.as_str() == action);
        let allowing = roles.iter().filter(|role| known.is_some_and(|known| role.allows(known)));
        let built_in: Vec<&str> = allowing.map(|role| role.as_str()).collect();
        let ceiling = known.is_none_or(Role::is_tenants);
        let explanation = permissions.explain(action, &built_in, ceiling, record, &credential.claims(), find);
        Ok(Explained { explanation, is_member: matches!(member, Membership::Active { .. }) })
    }

    async fn state<A, R>(&self, tenant: TenantId, id: Uuid) -> Result<(A, u64), Unreadable>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + Send + Sync + 'static,
    {
        let key = StreamKey { tenant, stream: StreamId { kind: A::TYPE, id } };
        let cached = self.executor.present_state::<A, R>(&key).await.map_err(|error| match error {
            ExecuteError::Append(error) => Unreadable(Box::new(error)),
            other => Unreadable(Box::new(other)),
        })?;
        Ok((cached.state.clone(), cached.version))
    }
}

fn is_about_rules(event_type: &str) -> bool {
    let kinds = ["platform.membership.", "platform.role.", "platform.consent.", "platform.tenant."];
    kinds.iter().any(|kind| event_type.starts_with(kind))
}
