//! Carries out what operators ask about read models, on the node that writes: an event is skipped only once the
//! decision to skip it is durable in the journal.

use chrono::{DateTime, Utc};
use daybook_app::{Call, Credential, ExecuteError, Executor, authorize};
use daybook_domain::platform::{Projection, ProjectionCommand, operator_subject, projection_id};
use daybook_domain::value::{InvalidValue, Name, Reason};
use daybook_domain::{Actor, ActorKind, PLATFORM_TENANT, Personal, Role as DomainRole};
use daybook_projections::Projections;
use daybook_projections::engine::requests::{self, Request, Wish};
use daybook_projections::engine::{SkipError, parked_streams};
use daybook_store::database::{DatabaseError, Pool};
use daybook_store::system::SharedSystem;
use std::time::Duration;
use uuid::Uuid;

/// How often somebody is looked for who asks.
const POLL: Duration = Duration::from_secs(1);
/// How long the outcome of a retry is waited for.
const TRIED_MAX: Duration = Duration::from_secs(20);

/// What a request is carried out with.
pub struct Operator {
    pub pool: Pool,
    pub executor: Executor,
    pub projections: Projections,
    pub system: SharedSystem,
}

/// Why a request is not carried out.
enum Undone {
    /// For good.
    Refused(String),
    /// It is tried again.
    Later(String),
}

impl From<DatabaseError> for Undone {
    fn from(error: DatabaseError) -> Self {
        Undone::Later(error.to_string())
    }
}

impl From<InvalidValue> for Undone {
    fn from(refusal: InvalidValue) -> Self {
        Undone::Refused(refusal.to_string())
    }
}

impl From<SkipError> for Undone {
    fn from(error: SkipError) -> Self {
        match error {
            SkipError::Database(error) => error.into(),
            SkipError::NotParked { .. } | SkipError::TooMany(_) => Undone::Refused(error.to_string()),
        }
    }
}

impl Operator {
    /// For ever; only while this node is the one that writes.
    pub async fn serve(self) {
        let standing = self.executor.journal().standing();
        loop {
            tokio::time::sleep(POLL).await;
            if standing.borrow().leading.is_none() {
                continue;
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "requests of operators are looked for later");
            }
        }
    }

    async fn look(&self) -> Result<(), DatabaseError> {
        let open = {
            let session = self.pool.get().await?;
            requests::open_requests(&session).await?
        };
        for request in open {
            let refused = match self.carry_out(&request).await {
                Ok(()) => None,
                Err(Undone::Refused(why)) => Some(why),
                Err(Undone::Later(why)) => {
                    tracing::warn!(request.id = %request.id, why, "a request of an operator is tried again");
                    continue;
                }
            };
            let session = self.pool.get().await?;
            requests::answer(&session, request.id, refused.as_deref(), self.system.utc()).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, request: &Request) -> Result<(), Undone> {
        let asked = self.system.utc();
        match &request.wish {
            Wish::Retry { .. } => {}
            Wish::Skip { position, reason } => {
                self.projections.may_skip(&request.read_model, *position).await?;
                self.write_down(request, *position, reason).await?;
                self.projections.skip(&request.read_model, *position, asked).await?;
            }
        }
        self.retry(request, asked).await
    }

    /// Who skips what and why, in the platform's journal. Durable when this returns.
    async fn write_down(&self, request: &Request, position: u64, reason: &str) -> Result<(), Undone> {
        let operator = Personal::known(operator_subject(&request.operator), Name::parse(&request.operator)?);
        let (read_model, reason) = (Name::parse(&request.read_model)?, Reason::parse(reason)?);
        let command = ProjectionCommand::SkipEvent { read_model, position, reason, operator };
        // Only who can write to the database itself can leave a request there.
        let credential = Credential::new(
            Actor { id: Uuid::new_v5(&PLATFORM_TENANT.0, b"operator of the projections"), kind: ActorKind::System },
            PLATFORM_TENANT,
            vec![DomainRole::PlatformAdmin],
            None,
        );
        let authorized =
            authorize(&credential, PLATFORM_TENANT, command).map_err(|denied| Undone::Refused(denied.to_string()))?;
        // Of the request's id: one that is repeated after a crash is one decision.
        let call = Call { command_id: Some(request.id), ..Call::default() };
        match self.executor.execute::<Projection>(authorized, projection_id(&request.read_model), call).await {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => Err(Undone::Refused(refusal.to_string())),
            Err(error) => Err(Undone::Later(crate::exit::chain(&error))),
        }
    }

    /// Has what is parked tried, and waits a while until that has happened.
    async fn retry(&self, request: &Request, asked: DateTime<Utc>) -> Result<(), Undone> {
        self.projections
            .progress()
            .retry(&request.read_model, None)
            .map_err(|error| Undone::Refused(error.to_string()))?;
        let wanted = match &request.wish {
            Wish::Retry { stream } => stream.as_ref(),
            Wish::Skip { .. } => None,
        };
        let deadline = tokio::time::Instant::now() + TRIED_MAX;
        loop {
            let parked = {
                let session = self.pool.get().await?;
                parked_streams(&session, &request.read_model).await?
            };
            let untried = parked.iter().any(|parked| {
                let chosen = wanted.is_none_or(|(kind, id)| parked.stream.kind == *kind && parked.stream.id == *id);
                chosen && parked.tried_at < asked
            });
            if !untried || tokio::time::Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
