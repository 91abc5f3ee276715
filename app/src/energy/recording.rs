//! One call: rows become parts, and each part one append.

use super::meters::{Meters, unknown};
use super::part::Part;
use super::report::{Rejected, Report};
use super::states::{earliest, key, states};
use super::{Ingest, IngestError, SentRow};
use crate::authorize::Credential;
use crate::cache::Cached;
use crate::executor::Call;
use daybook_domain::energy::readings::{Batch, Judged, Row, Verdict};
use daybook_domain::energy::{Device, Readings, ReadingsError, ReadingsEvent};
use daybook_domain::personal::Personal;
use daybook_domain::rules::Verdict as PermittedOn;
use daybook_domain::{Action, Context, EventIds, Refusal, TenantId};
use daybook_store::codec;
use daybook_store::journal::{
    Append, AppendError, CommandStamp, Known, NewEvent, Outcome, Seen, StreamAppend, StreamId, StreamKey,
};
use daybook_store::metadata::Metadata;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// How often a part is judged anew when others record in the same days at the same time.
const ATTEMPTS_MAX: usize = 16;

type Devices = HashMap<Uuid, Arc<Cached<Device>>>;
type Days = HashMap<Uuid, Arc<Cached<Readings>>>;

/// A call under way. Dropped without [`Recording::finish`], it has recorded some of its rows and not the others.
pub struct Recording {
    ingest: Ingest,
    credential: Credential,
    tenant: TenantId,
    call: Call,
    meters: Meters,
    part: Part,
    /// Parts so far.
    number: u32,
    report: Report,
}

/// Why all rows of a device and day are refused.
enum Refused {
    /// The device is not, or not any more, one of which the caller may record readings.
    NotPermitted,
    Day(ReadingsError),
}

/// A part, judged by the states of one moment.
struct Judgement {
    judged: Vec<Result<Judged, Refused>>,
    devices: Devices,
    days: Days,
    seen: Option<Seen>,
}

impl Recording {
    /// `verdict`: of which devices readings may be recorded.
    pub(super) fn new(
        ingest: Ingest,
        credential: Credential,
        tenant: TenantId,
        call: Call,
        verdict: PermittedOn,
    ) -> Self {
        Recording {
            ingest,
            meters: Meters::of(verdict, &credential),
            credential,
            tenant,
            call,
            part: Part::default(),
            number: 0,
            report: Report::default(),
        }
    }

    /// What became of the rows that have been judged so far; others may be waiting for their part to be full.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// A row that is refused before it can be judged.
    pub fn reject(&mut self, rejected: Rejected) {
        self.report.reject(rejected);
    }

    /// Takes rows in the order in which they were sent, and records what fills a part.
    ///
    /// # Errors
    /// [`IngestError`]; what was recorded before stays.
    pub async fn record(&mut self, rows: Vec<SentRow>) -> Result<(), IngestError> {
        self.meters.look_up(&self.ingest.executor, self.tenant, &rows).await?;
        for row in rows {
            let (device, start) = match self.meters.place(&row) {
                Ok(placed) => placed,
                Err(rejected) => {
                    self.report.reject(rejected);
                    continue;
                }
            };
            let judged = Row { start, energy_wh: row.energy_wh, quality: row.quality };
            if !self.part.fits(device, &judged) {
                self.flush().await?;
            }
            self.part.push(row.index, device, judged);
        }
        Ok(())
    }

    /// Records what is left.
    ///
    /// # Errors
    /// [`IngestError`]; [`Recording::report`] tells what was recorded before.
    pub async fn finish(&mut self) -> Result<&Report, IngestError> {
        self.flush().await?;
        self.report.rejections.sort_by_key(|rejected| rejected.index);
        Ok(&self.report)
    }

    /// Ends a call of which the rest does not come, without the rows that wait: were they recorded as a part, the
    /// call could not be repeated under its id, for a whole one has other rows in that part.
    pub fn break_off(&mut self) {
        self.part = Part::default();
        self.report.rejections.sort_by_key(|rejected| rejected.index);
    }

    /// Records the rows that wait, in one append.
    async fn flush(&mut self) -> Result<(), IngestError> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.part);
        let executor = self.ingest.executor.clone();
        let action = Action::ReadingsRecord;
        let actor = self.credential.actor.id;
        let mut hash_key = [0u8; 32];
        executor.system.random(&mut hash_key);
        let mut stamp = CommandStamp {
            tenant: self.tenant,
            id: match self.call.command_id {
                Some(call) => Uuid::new_v5(&call, &self.number.to_be_bytes()),
                None => executor.system.uuid_v7(),
            },
            digest: part.digest(action.as_str(), self.tenant.0, actor),
            hash_key,
            fresh: self.call.command_id.is_none(),
        };
        self.number += 1;
        let mut attempt = 0;
        let mut turn = None;
        // As for a command: what the append does not name must be what is so now.
        let mut current = !executor.is_one_of_several();
        loop {
            attempt += 1;
            let mut unused_at = None;
            if !stamp.fresh {
                match executor.journal.earlier(&stamp).await? {
                    Ok(outcome) => {
                        // Carried out before. Its rows are known now, so judging them again says so; a row that was
                        // refused then and is acceptable now is another command.
                        self.wrote(&outcome);
                        self.report.repeated = true;
                        (stamp.id, stamp.fresh) = (executor.system.uuid_v7(), true);
                    }
                    Err(seen) => unused_at = Some(seen),
                }
            }
            let judgement = match self.judge(&part).await? {
                Some(judgement) => judgement,
                None if attempt < ATTEMPTS_MAX => continue,
                None => return Err(AppendError::Stale.into()),
            };
            if judgement.rests_on_memory() && !std::mem::replace(&mut current, true) {
                self.forget(&part);
                continue;
            }
            let append = self.append(&part, &stamp, &judgement).await?;
            if append.streams.is_empty() {
                // Also a duplicate is only answered from what no crash can take back.
                match judgement.settled(&executor).await {
                    Ok(()) => {
                        self.count(&part, judgement.judged);
                        return Ok(());
                    }
                    Err(_) if attempt < ATTEMPTS_MAX => {
                        self.forget(&part);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let written: Vec<usize> = judgement.accepting().collect();
            let known = Known { versions_at: judgement.seen, unused_at };
            match executor.journal.append(append, known).await {
                // Another attempt of the same call was faster: what it recorded is found by looking again.
                Ok(outcome) if outcome.deduplicated => self.forget(&part),
                Ok(outcome) => {
                    self.remember(&part, &judgement, &written, outcome.seen);
                    self.wrote(&outcome);
                    self.count(&part, judgement.judged);
                    return Ok(());
                }
                Err(AppendError::Conflict { .. }) if attempt < ATTEMPTS_MAX => {
                    self.forget(&part);
                    // All at once again, and the unlucky would lose every time.
                    if turn.is_none() {
                        let tenant = StreamId { kind: "tenant", id: self.tenant.0 };
                        turn = Some(executor.turn(&StreamKey { tenant: self.tenant, stream: tenant }).await);
                    }
                }
                Err(AppendError::Stale) if attempt < ATTEMPTS_MAX => self.forget(&part),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Judges a part by the states of now; none when they are remembered from different epochs.
    async fn judge(&self, part: &Part) -> Result<Option<Judgement>, IngestError> {
        let executor = &self.ingest.executor;
        let devices = part.devices().map(|device| device.0);
        let devices = states::<Device>(executor, &executor.cache, self.tenant, devices).await?;
        let streams = part.groups.iter().map(|group| group.stream);
        let days = states::<Readings>(executor, &self.ingest.days, self.tenant, streams).await?;
        let moments = devices.values().map(|cached| cached.seen).chain(days.values().map(|cached| cached.seen));
        let Ok(seen) = earliest(moments) else {
            self.forget(part);
            return Ok(None);
        };
        let now = executor.system.utc();
        let seed = EventIds { seed: Uuid::nil() };
        let mut judged = Vec::with_capacity(part.groups.len());
        for group in &part.groups {
            let (Some(device), Some(day)) = (devices.get(&group.device.0), days.get(&group.stream)) else {
                return Err(AppendError::Unavailable("a stream was not loaded".into()).into());
            };
            let Some(rules) = device.state.rules(group.device) else {
                // It was there a moment ago: what it was seen in has been taken back.
                return Err(AppendError::Stale.into());
            };
            if !self.meters.is_as_placed(group.device, device.state.profile()) {
                // Its local times were told by another clock. The call, repeated, goes on where it broke off.
                return Err(AppendError::Stale.into());
            }
            // It was when its rows were placed, and may have changed since: a call can last.
            if !self.meters.permits(&device.state, group.device.0) {
                judged.push(Err(Refused::NotPermitted));
                continue;
            }
            let actor = self.credential.actor;
            let context = Context { id: group.stream, tenant: self.tenant, actor, now, ids: seed };
            let batch = Batch { rules, day: group.day, rows: group.rows.clone() };
            judged.push(day.state.judge(&context, &batch).map_err(Refused::Day));
        }
        Ok(Some(Judgement { judged, devices, days, seen }))
    }

    async fn append(&self, part: &Part, stamp: &CommandStamp, judgement: &Judgement) -> Result<Append, IngestError> {
        let executor = &self.ingest.executor;
        let metadata = self.metadata(stamp.id)?;
        let mut streams = Vec::new();
        let mut devices = HashSet::new();
        for place in judgement.accepting() {
            let (group, Some(event)) = (&part.groups[place], judgement.event(place)) else { continue };
            let encoded = codec::encode(event)?;
            let event_id = executor.system.uuid_v7();
            let event = NewEvent {
                event_id,
                event_type: encoded.event_type,
                event_version: encoded.event_version,
                payload: executor.sealer.seal(self.tenant, event_id, encoded.payload).await?,
                metadata: executor.sealer.seal(self.tenant, event_id, metadata.clone()).await?,
            };
            let stream = StreamId { kind: "readings", id: group.stream };
            streams.push(StreamAppend { stream, expected: judgement.days[&group.stream].version, events: vec![event] });
            devices.insert(group.device.0);
        }
        let read = |id: Uuid| (StreamId { kind: "device", id }, judgement.devices[&id].version);
        Ok(Append {
            tenant: self.tenant,
            command: stamp.clone(),
            streams,
            reads: devices.into_iter().map(read).collect(),
            claims: Vec::new(),
            releases: Vec::new(),
            not_after: None,
        })
    }

    fn metadata(&self, command_id: Uuid) -> Result<String, IngestError> {
        let actor = self.credential.actor;
        let personal = |text: &String| Personal::known(Metadata::actor_subject(actor.id), text.clone());
        let metadata = Metadata {
            actor: actor.id,
            actor_kind: actor.kind,
            on_behalf_of: None,
            session: self.credential.session,
            ip: self.call.ip.as_ref().map(personal),
            user_agent: self.call.user_agent.as_ref().map(personal),
            module: None,
            command: Action::ReadingsRecord.as_str().to_owned(),
            command_id,
            correlation: self.call.correlation.clone(),
            causation: None,
            consent: None,
        };
        let shape = |_| codec::CodecError::Shape { event_type: "metadata".into() };
        Ok(serde_json::to_string(&metadata).map_err(shape)?)
    }

    /// Keeps the states after an append; what it only looked at stands where it stood.
    fn remember(&self, part: &Part, judgement: &Judgement, written: &[usize], seen: Seen) {
        use cqrs_es::Aggregate;
        for place in written {
            let Some(event) = judgement.event(*place) else { continue };
            let stream = part.groups[*place].stream;
            let before = &judgement.days[&stream];
            let mut state = before.state.clone();
            state.apply(event.clone());
            let after = Cached { state, version: before.version + 1, seen };
            self.ingest.days.put(key::<Readings>(self.tenant, stream), Arc::new(after));
            let device = part.groups[*place].device.0;
            let read = &judgement.devices[&device];
            let read = Cached { state: read.state.clone(), version: read.version, seen };
            self.ingest.executor.cache.put(key::<Device>(self.tenant, device), Arc::new(read));
        }
    }

    fn forget(&self, part: &Part) {
        for group in &part.groups {
            self.ingest.days.forget(&key::<Readings>(self.tenant, group.stream));
            self.ingest.executor.cache.forget(&key::<Device>(self.tenant, group.device.0));
        }
    }

    fn wrote(&mut self, outcome: &Outcome) {
        self.report.written = Some((outcome.tenant, outcome.last_tenant_position, outcome.last_position));
    }

    fn count(&mut self, part: &Part, judged: Vec<Result<Judged, Refused>>) {
        for (group, judged) in part.groups.iter().zip(judged) {
            match judged {
                Err(Refused::NotPermitted) => {
                    group.indexes.iter().for_each(|index| self.report.reject(unknown(*index)));
                }
                Err(Refused::Day(refusal)) => {
                    group.indexes.iter().for_each(|index| self.report.reject(rejected(*index, &refusal)));
                }
                Ok(judged) => {
                    for (index, verdict) in group.indexes.iter().zip(judged.verdicts) {
                        match verdict {
                            Verdict::Accepted => self.report.accepted += 1,
                            Verdict::Duplicate => self.report.duplicates += 1,
                            Verdict::Rejected(rejection) => self.report.reject(rejected(*index, &rejection)),
                        }
                    }
                }
            }
        }
    }
}

/// Rows call their start `time`.
fn rejected(index: u64, refusal: &dyn Refusal) -> Rejected {
    let rejected = Rejected::of(index, refusal);
    let field = rejected.field.map(|field| if field == "start" { "time" } else { field });
    Rejected { field, ..rejected }
}

impl Judgement {
    /// The groups of which something is accepted.
    fn accepting(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.judged.len()).filter(|place| self.event(*place).is_some())
    }

    fn event(&self, place: usize) -> Option<&ReadingsEvent> {
        self.judged.get(place)?.as_ref().ok()?.event.as_ref()
    }

    /// Whether something in it is told to the caller that the writer will not compare: a row that is not recorded.
    fn rests_on_memory(&self) -> bool {
        let all_recorded = |judged: &Judged| judged.verdicts.iter().all(|v| matches!(v, Verdict::Accepted));
        self.judged.iter().any(|judged| !judged.as_ref().is_ok_and(all_recorded))
    }

    /// Waits until everything that it rests on is durable.
    async fn settled(&self, executor: &crate::Executor) -> Result<(), AppendError> {
        let moments = self.devices.values().map(|cached| cached.seen).chain(self.days.values().map(|c| c.seen));
        match moments.max_by_key(|seen| (seen.epoch, seen.batch)) {
            Some(latest) => executor.journal.wait_durable(latest).await,
            None => Ok(()),
        }
    }
}
