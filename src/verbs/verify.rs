//! `daybook verify`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use clap::{Args, ValueEnum};
use daybook_store::checkpoints::CheckpointStore;
use daybook_store::export::verify_export;
use daybook_store::keys::KeyFiles;
use daybook_store::system::Real;
use daybook_store::verify::{Evidence, Progress, Report, VerifyOptions, verify};
use daybook_store::{Role, schema};
use daybook_tlog::Verifier;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Check an exported file (`-`: standard input) instead of the journal; needs no database
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// The key that you trust, as `daybook/…+…+…` [default: the one in the data directory]
    #[arg(long, value_name = "KEY", requires = "export")]
    key: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.export {
        return exported(&settled, path, arguments);
    }
    let report = Base::with(&settled, async |base| carry_out(&settled, base).await).await?;
    print(&report, arguments.format);
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::verification(match report.first_bad_position() {
        Some(position) => format!("the journal was altered; the first bad position is {position}"),
        None => "the journal was altered; see the findings".into(),
    }))
}

async fn carry_out(settled: &Settled, base: &Base) -> Result<Report, Failure> {
    let client = base.database.connect(Role::Login, "").await.map_err(|e| Failure::database(&e))?;
    let identity = schema::identity(&client).await.map_err(|e| Failure::failed(&e))?;
    let files = KeyFiles::open(&settled.keys_dir(), false, "", &Real).map_err(|e| Failure::failed(&e))?;
    let verifier = files.signer().verifier();
    let store = CheckpointStore::new(&settled.checkpoints_dir(), identity.journal_id);
    let bar = super::bar("events");
    let shown = |progress: Progress| {
        bar.set_length(progress.of);
        bar.set_position(progress.position);
    };
    let evidence = Evidence { checkpoints: &store, verifier: &verifier };
    let options = VerifyOptions { progress: &shown, ..VerifyOptions::default() };
    let report = verify(&base.database, Some(evidence), options).await.map_err(|e| Failure::failed(&e))?;
    bar.finish_and_clear();
    Ok(report)
}

/// Checks a file that `daybook export` wrote.
fn exported(settled: &Settled, path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure { code: 1, message: format!("{} cannot be read: {e}", path.display()) };
    let key = match &arguments.key {
        Some(key) => Verifier::from_vkey(key.trim()).map_err(|e| Failure::usage(format!("--key: {e}")))?,
        None => {
            let files = KeyFiles::open(&settled.keys_dir(), false, "", &Real).map_err(|e| Failure::failed(&e))?;
            files.signer().verifier()
        }
    };
    let report = if path == Path::new("-") {
        verify_export(&mut std::io::stdin().lock(), &key)
    } else {
        verify_export(&mut BufReader::new(File::open(path).map_err(failed)?), &key)
    };
    let report = report.map_err(|e| Failure::failed(&e))?;
    print(&report, arguments.format);
    if report.is_clean() { Ok(()) } else { Err(Failure::verification("the export was altered; see the findings")) }
}

fn print(report: &Report, format: Format) {
    match format {
        Format::Json => println!("{:#}", json(report)),
        Format::Text => {
            println!(
                "{} events of {} tenants in {} batches; {} signed checkpoints",
                report.events, report.tenants, report.batches, report.checkpoints_checked
            );
            for finding in &report.findings {
                println!("{finding}");
            }
        }
    }
}

fn json(report: &Report) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|f| {
            serde_json::json!({
                "kind": f.kind.as_str(),
                "position": f.position,
                "tenant": f.tenant.map(|t| t.0),
                "tenantPositions": f.tenant_positions.as_ref().map(|r| [r.start(), r.end()]),
                "stream": f.stream,
                "message": f.message,
            })
        })
        .collect();
    serde_json::json!({
        "clean": report.is_clean(),
        "events": report.events,
        "tenants": report.tenants,
        "batches": report.batches,
        "checkpointsChecked": report.checkpoints_checked,
        "firstBadPosition": report.first_bad_position(),
        "findings": findings,
        "findingsLeftOut": report.findings_left_out,
    })
}
