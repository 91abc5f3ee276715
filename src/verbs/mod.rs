//! One file per verb of the command line.

pub mod backup;
pub mod config;
pub mod demo;
pub mod export;
pub mod migrate;
pub mod rebuild;
pub mod replay;
pub mod restore;
pub mod schemas;
pub mod serve;
pub mod verify;

/// A progress bar on standard error; nothing where that is no terminal.
fn bar(of: &str) -> indicatif::ProgressBar {
    let template = format!("{{bar:40}} {{human_pos}}/{{human_len}} {of}, {{per_sec}}, {{eta}} left");
    let style =
        indicatif::ProgressStyle::with_template(&template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(0).with_style(style)
}
