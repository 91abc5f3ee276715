//! What a campaign saw, as Markdown.

use crate::campaign::{Felt, Options, Outcome};
use crate::check::Rule;
use crate::fault::Kind;
use clap::ValueEnum;
use std::fmt::Write as _;
use std::time::Duration;

/// Writing to a String cannot fail: hence the results that are let go below.
pub fn markdown(options: &Options, outcome: &Outcome) -> String {
    let mut text = String::from("# Does Daybook lose anything?\n\nMade by\n\n");
    let release = if cfg!(debug_assertions) { "" } else { "--release " };
    let only: Vec<String> =
        options.only.iter().filter_map(|kind| Some(kind.to_possible_value()?.get_name().into())).collect();
    let only = if only.is_empty() { String::new() } else { format!(" --only {}", only.join(",")) };
    let _ = write!(
        text,
        "    cargo build {release}&& cargo run {release}-p daybook-loss-audit -- --seed {} --faults {} --writers {} \
         --nodes {}{only}\n\n",
        options.seed, options.faults, options.writers, options.nodes
    );
    text.push_str(
        "A real `daybook serve`, a real PostgreSQL and a real nats-server, with a proxy in every connection between \
         them; writers, subscribers and a JetStream consumer throughout. Afterwards the journal is read with plain SQL \
         and held against what each client wrote down. Processes are killed, stopped and cut off; the machine's power \
         stays on.\n\n",
    );
    let found = outcome.verdict.violated().len();
    let verdict =
        if found == 0 { "**Nothing was lost.**".to_owned() } else { format!("**{found} rules are violated.**") };
    let _ = write!(
        text,
        "{verdict} {} faults in {} s; {} writes acknowledged, {} refused; {} had no answer at first, of which {} came \
         to have one by being repeated (the others were given up on purpose); {} events in the journal; subscribers \
         were told {} times and resumed {} times; the consumer got {} messages.\n\n",
        outcome.felt.len(),
        outcome.took.as_secs(),
        outcome.acknowledged,
        outcome.refused,
        outcome.unknown,
        outcome.resolved,
        outcome.events,
        outcome.told,
        outcome.resumed,
        outcome.messages,
    );

    let _ = write!(
        text,
        "## Faults\n\nUntil a write is acknowledged and read again and every node says that it is ready, NATS \
         included: at most {} s, counted from the end of the fault. The pause is the longest time in which no write \
         was acknowledged, the fault included.\n\n\
         | fault | times | serves again after, median | at most | pause, median | at most |\n\
         |---|---|---|---|---|---|\n",
        options.bound.as_secs()
    );
    for kind in Kind::ALL {
        let alone = outcome.felt.iter().filter(|felt| felt.step.fault.kind == kind && felt.step.second.is_none());
        row(&mut text, kind.name(), alone.collect());
    }
    row(&mut text, "two of them, the second while the first is recovered from", {
        outcome.felt.iter().filter(|felt| felt.step.second.is_some()).collect()
    });
    for (kind, why) in &outcome.skipped {
        let _ = writeln!(text, "| {} | skipped: {why} | | | | |", kind.name());
    }

    text.push_str("\n## Rules\n\n| rule | checked | violated |\n|---|---|---|\n");
    for rule in Rule::ALL {
        let tally = outcome.verdict.of(rule);
        let _ = writeln!(text, "| {} | {} | {} |", rule.says(), tally.checked, tally.violated);
    }
    for rule in outcome.verdict.violated() {
        let tally = outcome.verdict.of(rule);
        let _ = write!(text, "\n### {:?}: {}\n\n", rule, rule.says());
        for violation in &tally.violations {
            let _ = writeln!(text, "- {}", violation.replace('\n', "\n      "));
        }
    }
    if let Some(kept) = &outcome.kept {
        let _ = write!(text, "\nHistories, journal and logs are in {}.\n", kept.display());
    }
    text
}

fn row(text: &mut String, name: &str, felt: Vec<&Felt>) {
    if felt.is_empty() {
        return;
    }
    // What did not come about counts as more than any.
    let served = felt.iter().map(|felt| felt.served_after.unwrap_or(Duration::MAX)).collect();
    let paused = felt.iter().map(|felt| felt.paused).collect();
    let _ = writeln!(text, "| {name} | {} | {} | {} |", felt.len(), median_and_most(served), median_and_most(paused));
}

fn median_and_most(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |index: usize| times.get(index).map_or_else(String::new, |time| seconds(*time));
    format!("{} | {}", at(times.len() / 2), at(times.len().saturating_sub(1)))
}

fn seconds(time: Duration) -> String {
    if time == Duration::MAX { "**not in time**".into() } else { format!("{:.1} s", time.as_secs_f64()) }
}
