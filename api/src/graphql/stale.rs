//! Answers that are not all there is: a query of read models that have parked streams of the tenants it is about names
//! them in `extensions.stale`. What it shows is right up to the events that are parked.

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextRequest};
use async_graphql::{Context, Response, Value};
use daybook_projections::engine::Lanes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How resolvers tell the extension; it leaves the program under another name.
const NOTE: &str = "daybook-stale";

/// The extension's factory.
pub struct TellStale;

struct Teller;

impl ExtensionFactory for TellStale {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Teller)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for Teller {
    async fn request(&self, ctx: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        let mut response = next.run(ctx).await;
        if response.http_headers.contains_key(NOTE) {
            let notes = response.http_headers.get_all(NOTE).iter();
            let models: BTreeSet<String> = notes.filter_map(|note| Some(note.to_str().ok()?.to_owned())).collect();
            let models = models.into_iter().map(Value::from).collect();
            response.extensions.insert("stale".to_owned(), Value::List(models));
            response.http_headers.remove(NOTE);
        }
        response
    }
}

/// Notes which of the read models that are about to be read do not show everything.
pub(crate) fn note(ctx: &Context<'_>, parts: &super::Parts, models: &[&'static str], lanes: Lanes) {
    for model in models.iter().filter(|model| parts.reads.is_stale(model, lanes)) {
        ctx.append_http_header(NOTE, *model);
    }
}
