//! One pass over the journal in the order of positions. No IO: rows come in, findings go out.

use super::evidence::Signed;
use super::report::{Finding, Kind, Report};
use super::rows::{BatchRow, EventColumns, HeadColumns};
use crate::system::Micros;
use daybook_domain::TenantId;
use daybook_tlog::RightEdge;
use std::collections::{HashMap, VecDeque};
use tokio_postgres::Row;

/// Rows that were met beside the events, to be compared with all there are.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Counted {
    pub(super) indexed: u64,
    pub(super) heads: u64,
}

/// A tenant on the way.
#[derive(Default)]
struct Tenant {
    edge: RightEdge,
    /// The tenant position that is due.
    next: u64,
    /// Leaves are missing: the tree is unknown until a stored head gives it.
    lost: bool,
    first_position: u64,
    last_position: u64,
    /// The size of the last head, and the position of the first event after it.
    head_size: u64,
    after_head: u64,
    /// The first fault that was found since the tree was last known.
    broken: Option<u64>,
    /// How many events it had when the journal was signed last.
    size_when_signed: u64,
    /// Whether the tree of the checkpoint's size is the signed one.
    matches: Option<bool>,
}

/// A tenant's last event in the batch on the way.
struct Touched {
    position: u64,
    tenant_position: u64,
    has_head: bool,
}

/// The tree of the journal against its checkpoints.
#[derive(Default)]
struct JournalTree {
    edge: RightEdge,
    /// Index of the next checkpoint to compare.
    next: usize,
    /// The largest size at which it was the signed one, and the first at which it was not.
    good: u64,
    bad: Option<u64>,
}

pub(super) struct Walk {
    signed: Signed,
    report: Report,
    counted: Counted,
    tenants: HashMap<TenantId, Tenant>,
    journal: JournalTree,
    last_position: u64,
    last_recorded_us: Micros,
    /// The last batch as it came; the next must continue it.
    last_batch: Option<BatchRow>,
    /// The batch of the last event.
    current: Option<BatchRow>,
    /// The last event belongs to none.
    unbatched: bool,
    touched: HashMap<TenantId, Touched>,
}

impl Walk {
    pub(super) fn new(signed: Signed, report: Report) -> Self {
        Walk {
            signed,
            report,
            counted: Counted::default(),
            tenants: HashMap::new(),
            journal: JournalTree::default(),
            last_position: 0,
            last_recorded_us: Micros::MIN,
            last_batch: None,
            current: None,
            unbatched: false,
            touched: HashMap::new(),
        }
    }

    /// The next batch, in the order of their numbers.
    pub(super) fn batch(&mut self, batch: BatchRow) {
        let (number, position, epoch, recorded) = self
            .last_batch
            .map_or((1, 1, 0, Micros::MIN), |b| (b.number + 1, b.last_position + 1, b.epoch, b.recorded_at_us));
        let mut fault = |message: String| self.report.found(Finding::new(Kind::Batch, message).at(position));
        if batch.number != number {
            fault(format!("batch {} came where {number} was due", batch.number));
        }
        if batch.first_position != position {
            fault(format!(
                "batch {} begins at position {} where {position} was due",
                batch.number, batch.first_position
            ));
        }
        if batch.last_position + 1 < batch.first_position {
            fault(format!("batch {} ends at position {}, before its beginning", batch.number, batch.last_position));
        }
        if batch.epoch < epoch {
            fault(format!("batch {} has epoch {} after {epoch}", batch.number, batch.epoch));
        }
        if batch.recorded_at_us < recorded {
            let message = format!("batch {} was recorded before its predecessor", batch.number);
            self.report.found(Finding::new(Kind::Time, message).at(batch.first_position));
        }
        self.report.batches += 1;
        self.last_batch = Some(batch);
    }

    /// The next event. `batches`: those with events that it may belong to, in order.
    pub(super) fn row(&mut self, row: &Row, batches: &mut VecDeque<BatchRow>) {
        self.report.events += 1;
        match EventColumns::from_row(row) {
            Ok(event) => self.event(&event, batches),
            Err(position) => {
                self.position(position);
                self.report.found(
                    Finding::new(Kind::Position, "the event cannot be read: a column is NULL or out of range")
                        .at(position),
                );
            }
        }
    }

    fn position(&mut self, position: u64) {
        let due = self.last_position + 1;
        if position > due {
            let message = match position - due {
                1 => "the event is missing".to_owned(),
                _ => format!("the events up to position {} are missing", position - 1),
            };
            self.report.found(Finding::new(Kind::Position, message).at(due));
        } else if position < due {
            self.report.found(Finding::new(Kind::Position, "the position is there twice").at(position));
        }
        self.last_position = self.last_position.max(position);
    }

    fn event(&mut self, event: &EventColumns<'_>, batches: &mut VecDeque<BatchRow>) {
        let position = event.position;
        self.position(position);
        self.enter_batch(event, batches);
        self.time(event);
        let sound_leaf = event.stored == Some(event.recomputed);
        if !sound_leaf {
            let message = "payload, metadata or header are not what the leaf hash is of";
            let finding = Finding::new(Kind::Leaf, message).at(position).of(event.tenant);
            let finding = finding.among(event.tenant_position..=event.tenant_position);
            self.report.found(finding.in_stream(event.stream_type, event.stream_id));
        }
        self.stream(event);

        let signed_up_to = self.signed.position;
        let tenant = self.tenants.entry(event.tenant).or_insert_with(|| Tenant {
            next: 1,
            first_position: position,
            ..Tenant::default()
        });
        if event.tenant_position != tenant.next {
            let message =
                format!("position {} of the tenant came where {} was due", event.tenant_position, tenant.next);
            let suspect = tenant.next.min(event.tenant_position)..=tenant.next.max(event.tenant_position);
            self.report.found(Finding::new(Kind::TenantPosition, message).at(position).of(event.tenant).among(suspect));
            tenant.lost = true;
            tenant.broken.get_or_insert(position);
        }
        if !sound_leaf {
            tenant.broken.get_or_insert(position);
        }
        tenant.next = event.tenant_position + 1;
        tenant.last_position = position;
        if tenant.after_head == 0 {
            tenant.after_head = position;
        }
        // The stored one: where only the content was altered, the trees above it are still right.
        let leaf = event.stored.unwrap_or(event.recomputed);
        if !tenant.lost {
            tenant.edge.push(leaf);
        }
        if let Some(head) = event.head {
            self.counted.heads += 1;
            let batch = self.current.map(|b| b.number);
            compare_head(tenant, event, head, batch, &mut self.report);
        }
        if let Some((size, root)) = self.signed.tenants.get(&event.tenant)
            && event.tenant_position == *size
            && !tenant.lost
        {
            tenant.matches = Some(tenant.edge.root() == *root);
            self.report.checkpoints_checked += 1;
        }
        if position <= signed_up_to {
            tenant.size_when_signed = event.tenant_position;
        }
        let touched = Touched { position, tenant_position: event.tenant_position, has_head: event.head.is_some() };
        if let Some(before) = self.touched.insert(event.tenant, touched)
            && before.has_head
        {
            let message = "a head stands within its batch: heads are written after the last event only";
            let finding = Finding::new(Kind::Head, message).at(before.position).of(event.tenant);
            self.report.found(finding.among(before.tenant_position..=before.tenant_position));
        }
        self.extend_journal(leaf);
    }

    fn enter_batch(&mut self, event: &EventColumns<'_>, batches: &mut VecDeque<BatchRow>) {
        let position = event.position;
        if self.current.is_some_and(|b| b.first_position <= position && position <= b.last_position) {
            return;
        }
        while batches.front().is_some_and(|b| b.last_position < position) {
            batches.pop_front();
        }
        let found = batches.front().filter(|b| b.first_position <= position).copied();
        if found.is_some() || !self.unbatched {
            self.leave_batch();
        }
        // Once for a run of them.
        if found.is_none() && !self.unbatched {
            self.report.found(Finding::new(Kind::Batch, "the event belongs to no batch").at(position).of(event.tenant));
        }
        self.unbatched = found.is_none();
        self.current = found;
    }

    /// Every tenant that the batch touched has a head now.
    fn leave_batch(&mut self) {
        let mut without: Vec<_> = self.touched.drain().filter(|(_, t)| !t.has_head).collect();
        without.sort_unstable_by_key(|(_, t)| t.position);
        for (tenant, touched) in without {
            let finding = Finding::new(Kind::Head, "the tenant has no head after its last event of the batch");
            let finding = finding.at(touched.position).of(tenant);
            self.report.found(finding.among(touched.tenant_position..=touched.tenant_position));
        }
    }

    fn time(&mut self, event: &EventColumns<'_>) {
        let fault = if event.recorded_at_us < self.last_recorded_us {
            "the event was recorded before its predecessor"
        } else if self.current.is_some_and(|b| b.recorded_at_us != event.recorded_at_us) {
            "the recorded time is not that of the batch"
        } else {
            self.last_recorded_us = event.recorded_at_us;
            return;
        };
        self.report.found(Finding::new(Kind::Time, fault).at(event.position).of(event.tenant));
    }

    fn stream(&mut self, event: &EventColumns<'_>) {
        self.counted.indexed += u64::from(event.indexed.is_some());
        let mut fault = |message: String| {
            let finding = Finding::new(Kind::Stream, message).at(event.position).of(event.tenant);
            self.report.found(finding.in_stream(event.stream_type, event.stream_id));
        };
        match event.indexed {
            Some(position) if position == event.position => {}
            Some(position) => {
                fault(format!("the index of streams puts sequence {} at position {position}", event.sequence))
            }
            None => fault(format!("the index of streams does not have sequence {}", event.sequence)),
        }
        match event.previous {
            _ if event.sequence <= 1 => {}
            Some(position) if position < event.position => {}
            Some(position) => fault(format!("sequence {} is at the later position {position}", event.sequence - 1)),
            None => fault(format!("sequence {} is missing before {}", event.sequence - 1, event.sequence)),
        }
    }

    fn extend_journal(&mut self, leaf: daybook_tlog::Hash) {
        let tree = &mut self.journal;
        tree.edge.push(leaf);
        while let Some((size, root)) = self.signed.journal.get(tree.next).filter(|(size, _)| *size <= tree.edge.size())
        {
            self.report.checkpoints_checked += 1;
            tree.next += 1;
            if *size == tree.edge.size() && *root == tree.edge.root() {
                tree.good = if tree.bad.is_none() { *size } else { tree.good };
            } else {
                tree.bad.get_or_insert(*size);
            }
        }
    }

    /// After the last event. `head`: the last position there should be.
    pub(super) fn finish(mut self, head: u64, last_batch: u64) -> (Report, Counted) {
        self.leave_batch();
        self.position(head + 1);
        if self.last_batch.map_or(0, |b| b.number) != last_batch {
            self.report.found(Finding::new(Kind::Batch, format!("batch {last_batch} cannot be reached")).at(head));
        }
        self.report.tenants = self.tenants.len() as u64;
        self.compare_tenants(head);
        self.compare_journal(head);
        (self.report, self.counted)
    }

    fn compare_tenants(&mut self, head: u64) {
        // In the order of positions, so that the first finding is the first.
        let none = Tenant::default();
        let mut signed: Vec<_> = self.signed.tenants.iter().map(|(t, (s, _))| (*t, *s)).collect();
        signed.sort_unstable_by_key(|(t, _)| (self.tenants.get(t).map_or(u64::MAX, |t| t.first_position), *t));
        for (id, size) in signed {
            let tenant = self.tenants.get(&id).unwrap_or(&none);
            let has = tenant.next.saturating_sub(1);
            if has < size {
                // Its events were where positions are missing now; or at the end; or nobody can tell.
                let gap = self.first_gap_after(tenant.last_position);
                let position = gap.unwrap_or_else(|| match self.journal.bad {
                    Some(_) => tenant.first_position.max(self.suspect_from()),
                    None if head < self.signed.position => head + 1,
                    None => tenant.last_position + 1,
                });
                let message = match has {
                    0 => "the tenant has a checkpoint but no event: the journal is shorter than its checkpoint",
                    _ => "the events are signed but gone: the journal is shorter than its checkpoint",
                };
                self.report.found(Finding::new(Kind::Shorter, message).at(position).of(id).among(has + 1..=size));
            } else if tenant.matches == Some(false) {
                let position = tenant.broken.unwrap_or_else(|| tenant.first_position.max(self.suspect_from()));
                let message =
                    "the tenant's tree is not the one that was signed: its events were rewritten, and heads with them";
                self.report.found(Finding::new(Kind::Checkpoint, message).at(position).of(id).among(1..=size));
            }
        }
        let mut behind: Vec<_> = self.tenants.iter().filter(|(_, t)| t.size_when_signed > 0).collect();
        behind.sort_unstable_by_key(|(_, t)| t.first_position);
        for (id, tenant) in behind {
            let size = self.signed.tenants.get(id).map_or(0, |(size, _)| *size);
            if size < tenant.size_when_signed {
                let message = match size {
                    0 => "the tenant's checkpoint is missing, though the journal is signed beyond its first event",
                    _ => "the tenant's checkpoint is older than the journal's: it was put back, or signing was refused",
                };
                let position = if size == 0 { tenant.first_position } else { tenant.last_position };
                let finding = Finding::new(Kind::Checkpoint, message).at(position).of(*id);
                self.report.found(finding.among(size + 1..=tenant.size_when_signed));
            }
        }
    }

    fn first_gap_after(&self, position: u64) -> Option<u64> {
        let gaps = self.report.findings.iter().filter(|f| f.kind == Kind::Position);
        gaps.filter_map(|f| f.position).find(|p| *p > position)
    }

    /// Where a rewrite that only the checkpoints show can have begun at the earliest.
    fn suspect_from(&self) -> u64 {
        if self.journal.bad.is_some() { self.journal.good + 1 } else { 1 }
    }

    fn compare_journal(&mut self, head: u64) {
        if let Some(bad) = self.journal.bad {
            let from = self.suspect_from();
            // A fault that has a place of its own explains this one.
            let position = self.report.first_bad_position().filter(|p| (from..=bad).contains(p)).unwrap_or(from);
            let message = format!(
                "the journal's tree is the signed one up to position {}, and no longer at {bad}",
                self.journal.good
            );
            self.report.found(Finding::new(Kind::Checkpoint, message).at(position));
        }
        if head < self.signed.position {
            let message = format!(
                "the journal is shorter than its checkpoint of {} events: a tail was removed or an older backup restored",
                self.signed.position
            );
            self.report.found(Finding::new(Kind::Shorter, message).at(head + 1));
        }
    }
}

fn compare_head(
    tenant: &mut Tenant,
    event: &EventColumns<'_>,
    head: HeadColumns<'_>,
    batch: Option<u64>,
    report: &mut Report,
) {
    let size = event.tenant_position;
    let mut fault = |position, from, message: String| {
        report.found(Finding::new(Kind::Head, message).at(position).of(event.tenant).among(from..=size));
    };
    if head.last_position != event.position {
        fault(
            event.position,
            size,
            format!("the tenant's head of size {size} gives {} as its last position", head.last_position),
        );
    }
    if batch.is_some_and(|b| b != head.batch) {
        fault(event.position, size, format!("the tenant's head of size {size} gives {} as its batch", head.batch));
    }
    match RightEdge::from_bytes(size, head.edge) {
        Ok(edge) => {
            if !tenant.lost && edge != tenant.edge {
                let first = tenant.broken.unwrap_or(tenant.after_head);
                let message = "the tenant's head is not the tree of its events: one of them, or the head, was altered";
                fault(first, (tenant.head_size + 1).min(size), message.into());
            }
            // From here on it is the stored tree that must continue: further faults show by themselves,
            // and the checkpoint tells whether this head was the one that was signed.
            tenant.edge = edge;
            tenant.lost = false;
            tenant.broken = None;
        }
        Err(error) => fault(event.position, size, error.to_string()),
    }
    tenant.head_size = size;
    tenant.after_head = 0;
}
