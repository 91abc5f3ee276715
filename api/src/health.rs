//! Is it alive, can it work. Anybody may ask that; why not, and how much is done, is told to the platform's own alone.

use crate::transport::{Authenticate, bearer};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use daybook_app::{Credential, may};
use daybook_domain::{Action, PLATFORM_TENANT};
use daybook_projections::Projections;
use daybook_projections::engine::{LaneState, LaneStatus, ModelHealth};
use daybook_store::journal::{Elsewhere, Standing};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// A part that may be away without making the rest unready: its name, and whether it is.
pub type Optional = (&'static str, Arc<dyn Fn() -> bool + Send + Sync>);

/// What health is told from.
#[derive(Clone)]
pub struct Health {
    pub optional: Vec<Optional>,
    pub standing: watch::Receiver<Standing>,
    /// Who writes on another node; none where there is no other.
    pub elsewhere: Option<watch::Receiver<Option<Elsewhere>>>,
    pub projections: Projections,
}

/// `/health/live`: the process answers. `/health/ready`: commands and queries are served, degraded or not; 503
/// otherwise. Neither tells anything about anybody's data; reasons and numbers go to who may list all tenants.
pub fn router<A: Authenticate<Credential = Credential>>(health: Health, authenticate: A) -> Router {
    let authenticate = Arc::new(authenticate);
    Router::new().route("/health/live", get(async || Json(json!({ "status": "live" })))).route(
        "/health/ready",
        get(async move |headers: HeaderMap| {
            let credential = match bearer(&headers) {
                Some(token) => authenticate.authenticate(token).await.ok(),
                None => None,
            };
            let detailed = credential.is_some_and(|caller| may(&caller, Action::TenantList, PLATFORM_TENANT));
            ready(&health, detailed)
        }),
    )
}

fn ready(health: &Health, detailed: bool) -> Response {
    let standing = health.standing.borrow().clone();
    let projections = health.projections.health();
    let elsewhere = health.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.borrow().is_some());
    let writer = match (&standing.leading, &standing.stopped) {
        (Some(_), _) => "leading",
        (None, _) if elsewhere => "elsewhere",
        (None, Some(_)) => "stopped",
        (None, None) => "waiting",
    };
    let ready = (standing.leading.is_some() || elsewhere) && projections.is_well();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let away = health.optional.iter().filter(|(_, is_away)| is_away());
    let parked = projections.models.iter().filter(|model| model.parked() > 0).map(|model| model.read_model);
    let degraded: Vec<&str> = away.map(|(name, _)| *name).chain(parked).collect();
    let mut body = json!({
        "status": match (ready, degraded.is_empty()) {
            (true, true) => "ready",
            (true, false) => "degraded",
            (false, _) => "unready",
        },
        "degraded": degraded,
        "writer": writer,
    });
    if detailed {
        body["reason"] = standing.stopped.into();
        body["readModels"] = projections.models.iter().map(told).collect();
    }
    (status, Json(body)).into_response()
}

/// One read model: slow is not stopped, and what has stopped or is left aside says so.
fn told(model: &ModelHealth) -> Value {
    let lanes = |state| model.lanes.iter().filter(|lane| lane.state() == state).count();
    let stopped = model.lanes.iter().filter_map(|lane| match &lane.status {
        LaneStatus::Running => None,
        LaneStatus::Stopped { reason, position } => {
            Some(json!({ "lane": lane.lane, "position": position, "reason": reason }))
        }
    });
    json!({
        "name": model.read_model,
        "version": model.version,
        "state": model.state().to_string(),
        "reason": model.trouble,
        "lanes": model.lanes.len(),
        "slow": lanes(LaneState::Slow),
        "stopped": lanes(LaneState::Stopped),
        "stops": stopped.collect::<Value>(),
        "parked": model.parked(),
        "lagMax": model.lanes.iter().map(|l| l.lag).max().unwrap_or(0),
        "behindSecondsMax": model.lanes.iter().map(|l| l.behind.as_secs()).max().unwrap_or(0),
    })
}
