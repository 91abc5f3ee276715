//! One file per verb of the command line.

pub mod admin;
pub mod backup;
pub mod config;
pub mod demo;
pub mod export;
pub mod migrate;
pub mod modules;
pub mod projections;
pub mod rebuild;
pub mod replay;
pub mod restore;
pub mod schemas;
pub mod serve;
pub mod verify;

use std::time::{Duration, Instant};

/// A progress bar on standard error; nothing where that is no terminal.
fn bar(of: &str) -> indicatif::ProgressBar {
    let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {of}, {{per_sec}}, {{eta}} left");
    let style =
        indicatif::ProgressStyle::with_template(&template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(0).with_style(style)
}

/// How often progress is told where nobody looks at a bar.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How far something is, with percentage, speed and time left: a bar on a terminal, lines elsewhere.
struct Shown {
    bar: indicatif::ProgressBar,
    begun: Instant,
    told: Instant,
}

impl Shown {
    fn new(of: &str) -> Self {
        let bar = bar(of);
        let template =
            format!("{{percent:>3}} % {{bar:40}} {{human_pos}}/{{human_len}} {of}, {{per_sec}}, {{eta}} left");
        if let Ok(style) = indicatif::ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Shown { bar, begun: now, told: now }
    }

    fn tell(&mut self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            eprintln!("{}", line(done, of, self.begun.elapsed()));
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(done: u64, of: u64, took: Duration) -> String {
    let per_second = u64::try_from(u128::from(done) * 1_000 / took.as_millis().max(1)).unwrap_or(u64::MAX);
    let percent = done.saturating_mul(100).checked_div(of).unwrap_or(100);
    let left = of.saturating_sub(done).checked_div(per_second).map_or("?".to_owned(), |left| left.to_string());
    format!("{percent} %, {done} of {of} events, {per_second} events/s, {left} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_tells_percentage_speed_and_time_left() {
        let line = |done, of, seconds| line(done, of, Duration::from_secs(seconds));
        assert_eq!(line(250_000, 1_000_000, 10), "25 %, 250000 of 1000000 events, 25000 events/s, 30 s left");
        assert_eq!(line(0, 10, 0), "0 %, 0 of 10 events, 0 events/s, ? s left");
        assert_eq!(line(0, 0, 5), "100 %, 0 of 0 events, 0 events/s, ? s left");
    }
}
