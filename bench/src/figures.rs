//! Of several measurements the middle one, and how figures are written.

use crate::load::{Cpu, Figures};

/// The middle one.
pub fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The middle one.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Client and server, µs per operation.
pub fn cpu(cpu: Cpu) -> String {
    format!("{:.0} + {:.0}", cpu.client_us, cpu.server_us)
}

/// Of several measurements of the same.
pub fn medians(figures: &[Figures]) -> Figures {
    Figures {
        per_second: middle(figures.iter().map(|f| f.per_second).collect()),
        p50_us: median(figures.iter().map(|f| f.p50_us).collect()),
        p99_us: median(figures.iter().map(|f| f.p99_us).collect()),
        others: middle(figures.iter().map(|f| f.others).collect()),
        operations: median(figures.iter().map(|f| f.operations).collect()),
        cpu: Cpu {
            client_us: middle(figures.iter().map(|f| f.cpu.client_us).collect()),
            server_us: middle(figures.iter().map(|f| f.cpu.server_us).collect()),
        },
    }
}

/// Slowest to fastest.
pub fn span(figures: &[Figures]) -> String {
    let (low, high) =
        figures.iter().fold((f64::MAX, 0f64), |(low, high), f| (low.min(f.per_second), high.max(f.per_second)));
    format!("{low:.0}–{high:.0}")
}

#[allow(clippy::cast_precision_loss)]
pub fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}
