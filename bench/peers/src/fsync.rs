//! How the disk does at the moment: writes of 4 KiB, each on the disk before the next begins.

use daybook_bench::error::BenchError;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE: [u8; 4_096] = [0x5a; 4_096];

/// Writes per second.
///
/// # Errors
/// When nothing can be written there.
pub fn probe(directory: &Path, time: Duration) -> Result<f64, BenchError> {
    let failed = |source| BenchError::Probe { path: directory.to_owned(), source };
    let mut file = tempfile::tempfile_in(directory).map_err(failed)?;
    let (begun, mut writes) = (Instant::now(), 0u32);
    while begun.elapsed() < time {
        file.write_all(&PAGE).and_then(|()| file.sync_data()).map_err(failed)?;
        writes += 1;
    }
    Ok(f64::from(writes) / begun.elapsed().as_secs_f64())
}
