//! CSV in long form, after RFC 4180: a header that names the columns, then a row a line.

use super::answer::Problem;
use super::rows::{Fields, Out, Parsed, ROW_BYTES_MAX};
use csv_core::{ReadRecordResult, Reader};
use daybook_app::energy::Rejected;
use std::borrow::Cow;

/// The columns that there can be.
const NAMES: [&str; 5] = ["device", "time", "value", "unit", "quality"];
/// Those that there must be.
const REQUIRED: usize = 4;
/// Fields of a record that are told apart; no header has more.
const FIELDS_MAX: usize = 16;

pub(super) struct CsvRows {
    reader: Reader,
    /// Of each field of a record, which name it is under; none before the header.
    columns: Option<Vec<usize>>,
    text: [u8; ROW_BYTES_MAX],
    text_len: usize,
    ends: [usize; FIELDS_MAX],
    ends_len: usize,
}

impl CsvRows {
    pub(super) fn new() -> Self {
        CsvRows {
            reader: Reader::new(),
            columns: None,
            text: [0; ROW_BYTES_MAX],
            text_len: 0,
            ends: [0; FIELDS_MAX],
            ends_len: 0,
        }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Out<'_>) -> Result<(), Problem> {
        // An empty input would mean the end to the reader.
        while !bytes.is_empty() {
            let read = self.read(bytes, out)?;
            bytes = &bytes[read.min(bytes.len())..];
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut Out<'_>) -> Result<(), Problem> {
        // The reader gives out a last record without a line's end, then says that it has none.
        self.read(&[], out)?;
        match self.columns {
            Some(_) => Ok(()),
            None => Err(header("the body is empty")),
        }
    }

    /// Reads on; says how many bytes it took.
    fn read(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<usize, Problem> {
        let (result, read, written, ended) =
            self.reader.read_record(bytes, &mut self.text[self.text_len..], &mut self.ends[self.ends_len..]);
        self.text_len += written;
        self.ends_len += ended;
        match result {
            ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            ReadRecordResult::OutputFull => return Err(out.too_long()),
            ReadRecordResult::OutputEndsFull => {
                return Err(Problem::bad(format!("row {} has more than {FIELDS_MAX} fields", out.next())));
            }
            ReadRecordResult::Record => {
                let (text_len, ends_len) = (self.text_len, self.ends_len);
                (self.text_len, self.ends_len) = (0, 0);
                let (text, ends) = (&self.text[..text_len], &self.ends[..ends_len]);
                match &self.columns {
                    None => self.columns = Some(columns(&fields(text, ends))?),
                    Some(columns) => out.push(|index| row(columns, text, ends, index)),
                }
            }
        }
        Ok(read)
    }
}

fn fields<'a>(text: &'a [u8], ends: &[usize]) -> Vec<Cow<'a, str>> {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(ends).map(|(begin, end)| String::from_utf8_lossy(&text[begin..*end])).collect()
}

/// Which name each column of the header has.
fn columns(fields: &[Cow<'_, str>]) -> Result<Vec<usize>, Problem> {
    let mut columns = Vec::new();
    for (number, field) in fields.iter().enumerate() {
        let name = field.trim();
        let Some(known) = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
            // A caller's text is not repeated, only where it stands.
            return Err(header(&format!("column {} has another name", number + 1)));
        };
        if columns.contains(&known) {
            return Err(header(&format!("the column {} is there twice", NAMES[known])));
        }
        columns.push(known);
    }
    match NAMES[..REQUIRED].iter().enumerate().find(|(known, _)| !columns.contains(known)) {
        Some((_, missing)) => Err(header(&format!("the column {missing} is missing"))),
        None => Ok(columns),
    }
}

fn header(what: &str) -> Problem {
    Problem::bad(format!(
        "{what}: the first line names the columns device,time,value,unit and perhaps quality, separated by commas"
    ))
}

fn row(columns: &[usize], text: &[u8], ends: &[usize], index: u64) -> Parsed {
    let malformed = |message: String| Rejected { index, code: "ROW_MALFORMED", field: None, message };
    if ends.len() != columns.len() {
        let (found, named) = (ends.len(), columns.len());
        return Err(malformed(format!("the row has {found} fields, and the header names {named}")));
    }
    if std::str::from_utf8(text).is_err() {
        return Err(malformed("the row is not UTF-8".into()));
    }
    let mut parsed = Fields::default();
    for (column, field) in columns.iter().zip(fields(text, ends)) {
        match NAMES[*column] {
            "device" => parsed.device = Some(field),
            "time" => parsed.time = Some(field),
            "value" => parsed.value = Some(field),
            "unit" => parsed.unit = Some(field),
            _ => parsed.quality = Some(field),
        }
    }
    parsed.parse(index)
}
