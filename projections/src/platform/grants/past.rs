//! Who could use what at an earlier moment: folded from the journal up to there, as the read models fold it.
//!
//! Reads only the streams of grants, memberships and modules, by the index of streams; their events hold no personal
//! fields, so nothing has to be opened. Refuses more of them than it can hold.

use super::access::{Surroundings, access};
use super::queries::GrantFilter;
use super::row::{GrantRow, GrantView, folded};
use crate::engine::{ApplyError, OpenedEvent, ReadModel, signed, unsigned};
use crate::platform::members::{MemberRow, row as member_row};
use crate::platform::module_switches::{ModuleSwitches, SwitchRow};
use crate::platform::modules::{ModuleRow, row as module_row};
use crate::read::keyset::Keyset;
use crate::read::{Direction, Limit, Page, ReadError, ReadSession, Slice, SortKey};
use chrono::{DateTime, Utc};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_store::journal::recorded::{COLUMNS, RecordedEvent};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Events that one look at the past may read.
pub const EVENTS_MAX: u32 = 50_000;

/// When.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Right after the event at this tenant position, and at its recorded time.
    Position(u64),
    /// With all that was recorded by then.
    Time(DateTime<Utc>),
}

#[derive(Debug, thiserror::Error)]
pub enum PastError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "up to that moment there are more than {EVENTS_MAX} events to read: export the journal and replay it instead"
    )]
    TooMuch,
    #[error("there is no such position in the tenant's journal yet")]
    NoSuchPosition,
    #[error("an event of the past cannot be read")]
    Event(#[from] ApplyError),
}

impl From<daybook_store::database::DatabaseError> for PastError {
    fn from(error: daybook_store::database::DatabaseError) -> Self {
        PastError::Read(error.into())
    }
}

/// A tenant's grants as they were, with their members and modules.
#[derive(Clone, Debug)]
pub struct Past {
    /// The moment to which access is judged.
    pub at: DateTime<Utc>,
    /// The journal position up to which it was looked.
    pub up_to: u64,
    pub grants: BTreeMap<Uuid, GrantRow>,
    pub members: BTreeMap<Uuid, MemberRow>,
    pub modules: BTreeMap<Uuid, ModuleRow>,
    /// Modules that were switched off for members, by membership and module.
    pub off_for_members: BTreeSet<(Uuid, Uuid)>,
    /// Keys of modules that the platform had switched off: of its own journal, see [`off_on_platform`].
    pub off_on_platform: BTreeSet<String>,
}

/// The events that a look at the past reads: of a tenant, up to a journal position and a recorded time.
pub fn past_query() -> String {
    // Materialized, or the planner may walk the whole journal in the order of positions.
    format!(
        "with s as materialized (
             select position from journal.stream_events
             where tenant_id = $1 and stream_type in ('grant', 'membership', 'module') and position <= $2
             order by position limit {})
         select {COLUMNS} from s join journal.events e on e.position = s.position
         where e.recorded_at <= $3 order by e.position",
        EVENTS_MAX + 1
    )
}

/// Folds a tenant's journal up to a moment. `durable`: the journal position up to which events may be shown.
///
/// # Errors
/// [`PastError`].
pub async fn past(session: &ReadSession, tenant: TenantId, moment: Moment, durable: u64) -> Result<Past, PastError> {
    let (until, at) = match moment {
        Moment::Time(at) => (None, at),
        Moment::Position(0) => (Some(0), DateTime::UNIX_EPOCH),
        Moment::Position(position) => {
            let sql = "select position, recorded_at from journal.events where tenant_id = $1 and tenant_position = $2";
            let rows = session.query(sql, &[&tenant.0, &signed(position)]).await?;
            let row = rows.first().ok_or(PastError::NoSuchPosition)?;
            (Some(unsigned(row.get(0))), row.get(1))
        }
    };
    let up_to = signed(until.map_or(durable, |until| until.min(durable)));
    // By time also where a position is named: recorded times never fall with rising positions.
    let rows = session.query(&past_query(), &[&tenant.0, &up_to, &at]).await?;
    if rows.len() > EVENTS_MAX as usize {
        return Err(PastError::TooMuch);
    }
    let mut past = Past {
        at,
        up_to: unsigned(up_to),
        grants: BTreeMap::new(),
        members: BTreeMap::new(),
        modules: BTreeMap::new(),
        off_for_members: BTreeSet::new(),
        off_on_platform: BTreeSet::new(),
    };
    for row in &rows {
        past.apply(RecordedEvent::from_row(row, 0))?;
    }
    Ok(past)
}

/// Keys of modules that the platform had switched off for all tenants at a moment, and up to a journal position. Asked in the
/// platform's own tenant.
///
/// # Errors
/// [`PastError`].
pub async fn off_on_platform(
    session: &ReadSession,
    at: DateTime<Utc>,
    up_to: u64,
) -> Result<BTreeSet<String>, PastError> {
    let sql = format!(
        "with s as materialized (
             select position from journal.stream_events
             where tenant_id = $1 and stream_type = 'module_switch' and position <= $2
             order by position limit {})
         select {COLUMNS} from s join journal.events e on e.position = s.position
         where e.recorded_at <= $3 order by e.position",
        EVENTS_MAX + 1
    );
    let rows = session.query(&sql, &[&PLATFORM_TENANT.0, &signed(up_to), &at]).await?;
    if rows.len() > EVENTS_MAX as usize {
        return Err(PastError::TooMuch);
    }
    let mut off: BTreeMap<Uuid, SwitchRow> = BTreeMap::new();
    for row in &rows {
        let recorded = RecordedEvent::from_row(row, 0);
        let payload = recorded.payload.clone();
        let event = OpenedEvent::new(recorded, payload);
        put(&mut off, event.stream_id, |row| ModuleSwitches::fold(row, &event))?;
    }
    Ok(off.into_values().filter_map(|row| row.module_key).collect())
}

impl Past {
    fn apply(&mut self, recorded: RecordedEvent) -> Result<(), ApplyError> {
        let payload = recorded.payload.clone();
        let event = OpenedEvent::new(recorded, payload);
        let id = event.stream_id;
        match event.stream_type.as_str() {
            "grant" => put(&mut self.grants, id, |row| event.fold_into(row, folded)),
            "membership" => {
                if ModuleSwitches::wants(&event.event_type) {
                    self.switch(&event)?;
                }
                put(&mut self.members, id, |row| event.fold_into(row, member_row::folded))
            }
            "module" => put(&mut self.modules, id, |row| event.fold_into(row, module_row::folded)),
            other => Err(ApplyError::Refused(format!("a stream of type {other} was not asked for"))),
        }
    }

    fn switch(&mut self, event: &OpenedEvent) -> Result<(), ApplyError> {
        use daybook_domain::platform::MembershipEvent as E;
        for happened in event.decode::<E>()? {
            match happened {
                E::ModuleSwitchedOff { module, .. } => self.off_for_members.insert((event.stream_id, module.0)),
                E::ModuleSwitchedOn { module, .. } => self.off_for_members.remove(&(event.stream_id, module.0)),
                E::Added { .. } | E::RolesChanged { .. } | E::Ended { .. } | E::Rejoined { .. } => false,
            };
        }
        Ok(())
    }

    /// A grant, and what it came to.
    pub fn view(&self, grant: &GrantRow) -> GrantView {
        let module = self.modules.get(&grant.module_id);
        let around = Surroundings {
            member: self.members.get(&grant.membership_id).map(|member| member.status),
            module: module.map(|module| module.status),
            role_held: module.is_some_and(|module| module.role_keys.contains(&grant.role)),
            off_on_platform: module.is_some_and(|module| self.off_on_platform.contains(&module.key)),
            off_for_member: self.off_for_members.contains(&(grant.membership_id, grant.module_id)),
        };
        GrantView { grant: grant.clone(), access: access(grant, around, self.at) }
    }

    fn matching(&self, filter: &GrantFilter) -> Vec<GrantView> {
        self.grants.values().map(|grant| self.view(grant)).filter(|view| filter.holds(view)).collect()
    }

    /// How many grants there were on all pages.
    pub fn count(&self, filter: &GrantFilter) -> u64 {
        self.matching(filter).len() as u64
    }

    /// A page of them, in the order of the present's pages.
    ///
    /// # Errors
    /// [`ReadError::ForeignCursor`] for a cursor of another list.
    pub fn page(
        &self,
        filter: &GrantFilter,
        direction: Direction,
        page: &Page<Keyset>,
    ) -> Result<Slice<GrantView>, ReadError> {
        let key = |cursor: &Keyset| match &cursor.key {
            SortKey::At(at) => Ok((*at, cursor.id)),
            SortKey::Text(_) => Err(ReadError::ForeignCursor),
        };
        let after = page.after.as_ref().map(key).transpose()?;
        let before = page.before.as_ref().map(key).transpose()?;
        let place = |view: &GrantView| (view.grant.granted_at, view.grant.grant_id);
        let mut views = self.matching(filter);
        let (above, below) = match direction {
            Direction::Ascending => (after, before),
            Direction::Descending => (before, after),
        };
        views.retain(|view| above.is_none_or(|key| place(view) > key) && below.is_none_or(|key| place(view) < key));
        views.sort_by_key(place);
        if page.reads(direction) == Direction::Descending {
            views.reverse();
        }
        let (Limit::First(asked) | Limit::Last(asked)) = page.limit;
        views.truncate(usize::from(asked) + 1);
        Ok(page.slice(views))
    }
}

fn put<R>(
    rows: &mut BTreeMap<Uuid, R>,
    id: Uuid,
    fold: impl FnOnce(Option<R>) -> Result<Option<R>, ApplyError>,
) -> Result<(), ApplyError> {
    let before = rows.remove(&id);
    if let Some(after) = fold(before)? {
        rows.insert(id, after);
    }
    Ok(())
}
