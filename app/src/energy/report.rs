//! What became of the rows of a call.

use daybook_domain::{Refusal, TenantId};

/// Refused rows that a report names; the others are only counted.
pub const REJECTIONS_MAX: usize = 1_000;

/// A row that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// Its place among the rows of the call, counted from 0.
    pub index: u64,
    /// Stable and UPPER_SNAKE.
    pub code: &'static str,
    /// The member of the row at fault, if it is one.
    pub field: Option<&'static str>,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Rejected {
    pub fn of(index: u64, refusal: &dyn Refusal) -> Self {
        Rejected { index, code: refusal.code(), field: refusal.path().first().copied(), message: refusal.to_string() }
    }
}

/// What became of the rows so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub accepted: u64,
    /// Known already with the same value.
    pub duplicates: u64,
    pub rejected: u64,
    /// The first refused rows, at most [`REJECTIONS_MAX`] of them, by index once the call has ended.
    pub rejections: Vec<Rejected>,
    /// The end of the last append: tenant, tenant position, journal position.
    pub written: Option<(TenantId, u64, u64)>,
    /// Part of the call had been carried out before under its id.
    pub repeated: bool,
}

impl Report {
    /// All rows that were judged.
    pub fn rows(&self) -> u64 {
        self.accepted + self.duplicates + self.rejected
    }

    /// Whether some refused rows are only counted.
    pub fn truncated(&self) -> bool {
        self.rejected > self.rejections.len() as u64
    }

    pub(super) fn reject(&mut self, rejected: Rejected) {
        self.rejected += 1;
        if self.rejections.len() < REJECTIONS_MAX {
            self.rejections.push(rejected);
        }
    }
}
