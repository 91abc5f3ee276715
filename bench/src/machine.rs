//! How much of the machine others take. Says nothing where the system does not tell.

use std::time::{Duration, Instant};

/// Processor time since the start of the system, µs, all processors together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    busy_us: f64,
    total_us: f64,
}

impl Machine {
    pub(crate) fn now() -> Self {
        // Hundredths of a second: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let times: Vec<f64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|t| t.parse().ok())
            .collect();
        let total: f64 = times.iter().sum();
        let idle: f64 = times.iter().skip(3).take(2).sum();
        Machine { busy_us: (total - idle) * 10_000.0, total_us: total * 10_000.0 }
    }

    pub(crate) fn since(self, before: Machine) -> Machine {
        Machine { busy_us: self.busy_us - before.busy_us, total_us: self.total_us - before.total_us }
    }

    /// The share of those who used none of the `own_us`.
    pub(crate) fn others(self, own_us: f64) -> f64 {
        if self.total_us > 0.0 { ((self.busy_us - own_us) / self.total_us).max(0.0) } else { 0.0 }
    }

    fn idle(self) -> bool {
        self.busy_us <= self.total_us * 0.2
    }
}

/// Waits for a quiet second, but not for ever.
pub(crate) async fn wait_until_idle(patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut before = Machine::now();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = Machine::now();
        if now.since(before).idle() {
            return;
        }
        before = now;
    }
}
