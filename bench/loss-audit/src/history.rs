//! What clients did and were told, one JSON object a line, written down before anything else is done with it.
//!
//! The files are all that the check knows of the clients: it can be repeated from them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::Path;
use uuid::Uuid;

/// What a writer asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Ask {
    RegisterTenant {
        name: String,
    },
    RenameTenant {
        tenant: Uuid,
        name: String,
        /// Change only this version.
        expected: Option<i64>,
    },
    RegisterDevice {
        tenant: Uuid,
        name: String,
        serial: String,
    },
    /// Values of slots that follow each other.
    RecordReadings {
        tenant: Uuid,
        device: Uuid,
        /// Unix time of the first slot.
        from_s: i64,
        step_s: i64,
        wh: Vec<i64>,
        /// By `POST /v1/readings` rather than the mutation.
        ingest: bool,
    },
}

/// One line of a writer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Written {
    /// On its way for the first time.
    Invoked {
        command: Uuid,
        #[serde(flatten)]
        ask: Ask,
    },
    /// One attempt without an answer to rely on; the code, or what happened to the connection.
    Unanswered { command: Uuid, why: String },
    /// Done, and durable by the server's word.
    Acknowledged {
        command: Uuid,
        position: Option<String>,
        /// Of what was registered or changed.
        id: Option<Uuid>,
        version: Option<i64>,
    },
    /// Not done, by the server's word. `is_wrong`: there was no reason to.
    Refused { command: Uuid, code: String, is_wrong: bool },
    /// Never repeated: done or not.
    Abandoned { command: Uuid },
    /// A tenant, read at least at the position of one's own write.
    Read { tenant: Uuid, position: String, written: i64, name: String, read: Option<i64>, read_name: Option<String> },
}

/// One line of a subscriber.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Told {
    /// Which tenant, and from where: the ordinal of the last event before, or the version of the row.
    Begun { tenant: Uuid, after: i64, what: Followed },
    Event {
        position: String,
        ordinal: i64,
        event: Uuid,
        event_type: String,
        command: Option<Uuid>,
        stream: Uuid,
        sequence: i64,
    },
    /// A tenant's row after a change.
    Row { position: String, version: i64, name: String },
    /// The connection ended, and it is taken up again.
    Resumed { why: String },
    /// The server said that it cannot be taken up.
    Ended { code: String },
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Followed {
    Events,
    Rows,
}

/// A message of the stream, as its consumer got it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Message {
    /// In the stream.
    pub sequence: u64,
    pub subject: String,
    pub event: Uuid,
    pub kind: String,
    pub source: String,
    pub position: String,
    pub data: serde_json::Value,
}

/// A file of lines, written through at once.
pub struct Log<Line> {
    file: File,
    lines: PhantomData<fn(&Line)>,
}

impl<Line: Serialize + DeserializeOwned> Log<Line> {
    /// # Errors
    /// When the file cannot be made.
    pub fn create(directory: &Path, name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(directory.join(format!("{name}.jsonl")))?;
        Ok(Log { file, lines: PhantomData })
    }

    /// # Errors
    /// When it cannot be written: then the campaign proves nothing.
    pub fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

/// Every log whose name begins so: its name and lines, in the order of names.
///
/// # Errors
/// When one cannot be read or a line is not one.
pub fn read<Line: DeserializeOwned>(directory: &Path, prefix: &str) -> io::Result<Vec<(String, Vec<Line>)>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with(prefix) {
            continue;
        }
        let lines = BufReader::new(File::open(&path)?).lines();
        let lines = lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from));
        logs.push((name, lines.collect::<io::Result<Vec<Line>>>()?));
    }
    logs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let command = Uuid::from_u128(7);
        let lines = [
            Written::Invoked { command, ask: Ask::RegisterTenant { name: "Acme \u{e4}\n".into() } },
            Written::Unanswered { command, why: "UNAVAILABLE".into() },
            Written::Acknowledged { command, position: Some("p".into()), id: None, version: Some(1) },
        ];
        let mut log = Log::create(directory.path(), "writer-01").unwrap();
        for line in &lines {
            log.write(line).unwrap();
        }
        Log::<Told>::create(directory.path(), "reader-01").unwrap();
        let read = read::<Written>(directory.path(), "writer-").unwrap();
        assert_eq!(read, [("writer-01".to_owned(), lines.to_vec())]);
    }
}
