//! What a verification found.

use daybook_domain::TenantId;
use std::fmt;
use std::ops::RangeInclusive;

/// Findings that are kept whole; the rest is counted.
pub const FINDINGS_MAX: usize = 100;

/// What is wrong. In the order in which they are checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A line of an export is none.
    Line,
    /// A trigger that refuses changes is missing, altered or switched off.
    Guard,
    /// Positions are not 1..N.
    Position,
    /// Batches do not follow each other, or an event belongs to none.
    Batch,
    /// Recorded times go backwards, or an event's is not its batch's.
    Time,
    /// An event's leaf hash is not the one of its content.
    Leaf,
    /// A tenant's positions are not 1..n.
    TenantPosition,
    /// Events and the index of streams disagree.
    Stream,
    /// A tenant's head is missing, superfluous or not the tree of its events.
    Head,
    /// A signed checkpoint is missing, not acceptable, or of another tree.
    Checkpoint,
    /// The journal is shorter than its checkpoint: a tail was removed, or an older backup restored.
    Shorter,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Line => "line",
            Kind::Guard => "guard",
            Kind::Position => "position",
            Kind::Batch => "batch",
            Kind::Time => "time",
            Kind::Leaf => "leaf",
            Kind::TenantPosition => "tenant position",
            Kind::Stream => "stream",
            Kind::Head => "head",
            Kind::Checkpoint => "checkpoint",
            Kind::Shorter => "shorter",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub kind: Kind,
    /// The first journal position that is, or with a range of suspects could be, wrong.
    pub position: Option<u64>,
    pub tenant: Option<TenantId>,
    /// The tenant positions among which the fault is.
    pub tenant_positions: Option<RangeInclusive<u64>>,
    /// `<type>/<id>`
    pub stream: Option<String>,
    /// What is wrong, in a sentence; does not repeat the other fields.
    pub message: String,
}

impl Finding {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Finding { kind, position: None, tenant: None, tenant_positions: None, stream: None, message: message.into() }
    }

    pub fn at(self, position: u64) -> Self {
        Finding { position: Some(position), ..self }
    }

    pub fn of(self, tenant: TenantId) -> Self {
        Finding { tenant: Some(tenant), ..self }
    }

    pub fn among(self, tenant_positions: RangeInclusive<u64>) -> Self {
        Finding { tenant_positions: Some(tenant_positions), ..self }
    }

    pub fn in_stream(self, kind: &str, id: impl fmt::Display) -> Self {
        Finding { stream: Some(format!("{kind}/{id}")), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(position) = self.position {
            write!(f, " at position {position}")?;
        }
        if let Some(tenant) = self.tenant {
            write!(f, ", tenant {}", tenant.0)?;
        }
        match &self.tenant_positions {
            Some(range) if range.start() == range.end() => write!(f, " position {}", range.start())?,
            Some(range) => write!(f, " positions {} to {}", range.start(), range.end())?,
            None => {}
        }
        if let Some(stream) = &self.stream {
            write!(f, ", stream {stream}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The result of a verification.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub events: u64,
    pub tenants: u64,
    pub batches: u64,
    /// Signed trees that were compared with the journal: tenants', the journal's and its milestones.
    pub checkpoints_checked: u64,
    /// At most [`FINDINGS_MAX`]; the first of every kind is among them.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub findings_left_out: u64,
    first_bad: Option<u64>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The smallest journal position at which something is, or could be, wrong.
    pub fn first_bad_position(&self) -> Option<u64> {
        self.first_bad
    }

    pub(crate) fn found(&mut self, finding: Finding) {
        self.first_bad = match (self.first_bad, finding.position) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let first_of_kind = self.findings.iter().all(|f| f.kind != finding.kind);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
            return;
        }
        self.findings_left_out += 1;
        if first_of_kind {
            // Room is made at the expense of a kind that has had its say.
            let kinds = |kind| self.findings.iter().filter(|f| f.kind == kind).count();
            if let Some(last) = self.findings.iter().rposition(|f| kinds(f.kind) > 1) {
                self.findings.remove(last);
            }
            self.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_the_first_of_a_late_kind_still_shows() {
        let mut report = Report::default();
        (0..250).for_each(|n| report.found(Finding::new(Kind::Leaf, "altered").at(500 + n)));
        report.found(Finding::new(Kind::Shorter, "shorter").at(7));

        assert_eq!((report.findings.len(), report.findings_left_out), (FINDINGS_MAX, 151));
        assert_eq!(report.findings.last().map(|f| f.kind), Some(Kind::Shorter));
        assert_eq!(report.first_bad_position(), Some(7));
    }
}
