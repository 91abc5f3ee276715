//! NDJSON: an object a line. Blank lines are no rows.

use super::answer::Problem;
use super::rows::{Out, ROW_BYTES_MAX, json_row};

#[derive(Default)]
pub(super) struct LineRows {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl LineRows {
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Out<'_>) -> Result<(), Problem> {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(at);
            bytes = &rest[1..];
            if self.begun.is_empty() {
                Self::line(line, out)?;
            } else {
                self.begin(line, out)?;
                let line = std::mem::take(&mut self.begun);
                Self::line(&line, out)?;
            }
        }
        self.begin(bytes, out)
    }

    pub(super) fn end(&mut self, out: &mut Out<'_>) -> Result<(), Problem> {
        let line = std::mem::take(&mut self.begun);
        Self::line(&line, out)
    }

    fn begin(&mut self, bytes: &[u8], out: &Out<'_>) -> Result<(), Problem> {
        if self.begun.len() + bytes.len() > ROW_BYTES_MAX {
            return Err(out.too_long());
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    fn line(line: &[u8], out: &mut Out<'_>) -> Result<(), Problem> {
        let line = line.trim_ascii();
        if line.len() > ROW_BYTES_MAX {
            return Err(out.too_long());
        }
        if !line.is_empty() {
            out.push(|index| json_row(line, index));
        }
        Ok(())
    }
}
