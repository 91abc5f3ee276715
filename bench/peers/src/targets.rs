//! What was promised, beside what was measured.

use std::fmt::Write as _;

/// A table of promises.
pub struct Targets {
    table: String,
}

impl Default for Targets {
    fn default() -> Self {
        Targets { table: "| promised | measured | target | |\n|---|---|---|---|\n".into() }
    }
}

impl Targets {
    pub fn at_least(&mut self, what: &str, measured: f64, unit: &str, least: f64) {
        self.row(what, measured, unit, "≥", least, measured >= least);
    }

    pub fn at_most(&mut self, what: &str, measured: f64, unit: &str, most: f64) {
        self.row(what, measured, unit, "≤", most, measured <= most);
    }

    fn row(&mut self, what: &str, measured: f64, unit: &str, sign: &str, target: f64, is_met: bool) {
        let met = if is_met { "met" } else { "**not met**" };
        let (measured, target) = (figure(measured), figure(target));
        // Writing to a String cannot fail.
        let _ = writeln!(self.table, "| {what} | {measured}{unit} | {sign} {target}{unit} | {met} |");
    }

    pub fn table(self) -> String {
        self.table
    }
}

/// With as many digits as say something.
fn figure(value: f64) -> String {
    if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_at_its_bound_and_not_beyond() {
        let mut targets = Targets::default();
        targets.at_least("speed", 300_000.0, "/s", 300_000.0);
        targets.at_most("time", 8.01, " ms", 8.0);
        let table = targets.table();
        assert!(table.contains("| speed | 300000/s | ≥ 300000/s | met |"), "{table}");
        assert!(table.contains("| time | 8.01 ms | ≤ 8.00 ms | **not met** |"), "{table}");
    }
}
