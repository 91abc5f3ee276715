//! Readings of several devices, read together: one statement for all devices of a list that ask for the same page.

use crate::graphql::reads::failed;
use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{Error, Result};
use chrono::{DateTime, Utc};
use daybook_projections::energy::readings::{self, HourRow, ReadingRow, Span, Totals};
use daybook_projections::read::{Page, Slice};
use daybook_projections::{Reader, Scope};
use std::collections::HashMap;
use std::hash::Hash;
use uuid::Uuid;

/// Devices read at once.
const BATCH_MAX: usize = 200;

/// Loads readings that somebody was permitted to see. Nothing is kept between requests.
pub struct Series {
    reader: Reader,
}

/// A page of a device's readings.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawKey {
    pub device: Uuid,
    pub span: Span,
    pub page: Page<DateTime<Utc>>,
}

/// A page of a device's hours.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HourKey {
    pub device: Uuid,
    pub span: Span,
    pub page: Page<DateTime<Utc>>,
}

/// A device's readings, added up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TotalsKey {
    pub device: Uuid,
    pub span: Span,
}

impl Series {
    /// For the data of a schema.
    pub(crate) fn loader(reader: Reader) -> DataLoader<Series> {
        DataLoader::new(Series { reader }, tokio::spawn).max_batch_size(BATCH_MAX)
    }
}

/// Keys that differ in nothing but the device.
fn alike<K, Q: Eq + Hash>(keys: &[K], question: impl Fn(&K) -> (Uuid, Q)) -> HashMap<Q, Vec<Uuid>> {
    let mut questions: HashMap<Q, Vec<Uuid>> = HashMap::new();
    for (device, question) in keys.iter().map(question) {
        questions.entry(question).or_default().push(device);
    }
    questions
}

impl Loader<RawKey> for Series {
    type Value = Slice<ReadingRow>;
    type Error = Error;

    async fn load(&self, keys: &[RawKey]) -> Result<HashMap<RawKey, Slice<ReadingRow>>> {
        let mut found = HashMap::new();
        for ((span, page), devices) in alike(keys, |key| (key.device, (key.span, key.page.clone()))) {
            let session = self.reader.begin(Scope::Tenant(span.tenant)).await.map_err(failed)?;
            let pages = readings::raw_pages(&session, &span, &devices, &page).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            found.extend(pages.into_iter().map(|(device, rows)| (RawKey { device, span, page: page.clone() }, rows)));
        }
        Ok(found)
    }
}

impl Loader<HourKey> for Series {
    type Value = Slice<HourRow>;
    type Error = Error;

    async fn load(&self, keys: &[HourKey]) -> Result<HashMap<HourKey, Slice<HourRow>>> {
        let mut found = HashMap::new();
        for ((span, page), devices) in alike(keys, |key| (key.device, (key.span, key.page.clone()))) {
            let session = self.reader.begin(Scope::Tenant(span.tenant)).await.map_err(failed)?;
            let pages = readings::hourly_pages(&session, &span, &devices, &page).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            found.extend(pages.into_iter().map(|(device, rows)| (HourKey { device, span, page: page.clone() }, rows)));
        }
        Ok(found)
    }
}

impl Loader<TotalsKey> for Series {
    type Value = Totals;
    type Error = Error;

    async fn load(&self, keys: &[TotalsKey]) -> Result<HashMap<TotalsKey, Totals>> {
        let mut found = HashMap::new();
        for (span, devices) in alike(keys, |key| (key.device, key.span)) {
            let session = self.reader.begin(Scope::Tenant(span.tenant)).await.map_err(failed)?;
            let totals = readings::totals(&session, &span, &devices).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            found.extend(totals.into_iter().map(|(device, totals)| (TotalsKey { device, span }, totals)));
        }
        Ok(found)
    }
}
