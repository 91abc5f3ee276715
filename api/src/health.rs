//! Is it alive, can it work.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use daybook_projections::Projections;
use daybook_store::journal::Standing;
use serde_json::json;
use tokio::sync::watch;

/// What health is told from.
#[derive(Clone)]
pub struct Health {
    pub standing: watch::Receiver<Standing>,
    pub projections: Projections,
}

/// `/health/live`: the process answers. `/health/ready`: commands and queries are served; 503 and the
/// reason otherwise. Neither tells anything about anybody's data.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/health/live", get(async || Json(json!({ "status": "live" }))))
        .route("/health/ready", get(async move || ready(&health)))
}

fn ready(health: &Health) -> Response {
    let standing = health.standing.borrow().clone();
    let projections = health.projections.health();
    let writer = match (&standing.leading, &standing.stopped) {
        (Some(_), _) => "leading",
        (None, Some(_)) => "stopped",
        (None, None) => "waiting",
    };
    let ready = standing.leading.is_some() && projections.is_well();
    let models: Vec<_> = projections
        .models
        .iter()
        .map(|model| {
            let stopped =
                model.lanes.iter().filter(|l| l.status != daybook_projections::engine::LaneStatus::Running).count();
            json!({
                "name": model.read_model,
                "version": model.version,
                "lanes": model.lanes.len(),
                "stopped": stopped,
                "lagMax": model.lanes.iter().map(|l| l.lag).max().unwrap_or(0),
            })
        })
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if ready { "ready" } else { "unready" },
        "writer": writer,
        "reason": standing.stopped,
        "readModels": models,
    });
    (status, Json(body)).into_response()
}
