//! From the bytes of a body to rows, whatever the format.

use super::answer::Problem;
use super::array::ArrayRows;
use super::csv::CsvRows;
use super::lines::LineRows;
use axum::http::{HeaderMap, header};
use daybook_app::energy::{Rejected, SentRow};
use daybook_domain::Refusal;
use daybook_domain::energy::local_time::Stamp;
use daybook_domain::energy::quantity::{EnergyUnit, parse_energy};
use daybook_domain::energy::readings::Quality;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Bytes of one row.
pub const ROW_BYTES_MAX: usize = 4_096;

pub(super) type Parsed = Result<SentRow, Rejected>;

enum Format {
    Csv(Box<CsvRows>),
    Lines(LineRows),
    Array(ArrayRows),
}

/// Reads rows as they come.
pub(super) struct Rows {
    format: Format,
    read: Vec<Parsed>,
    count: u64,
}

impl Rows {
    /// For the media type of a request.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Problem::media("send the body as it is, without a `Content-Encoding`"));
        }
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut members = text.split(';').map(str::trim);
        let media = members.next().unwrap_or_default().to_ascii_lowercase();
        let utf8 = members.all(|member| match member.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                ["utf-8", "utf8"].iter().any(|known| value.trim_matches('"').eq_ignore_ascii_case(known))
            }
            _ => true,
        });
        if !utf8 {
            return Err(Problem::media("send text in UTF-8"));
        }
        let format = match media.as_str() {
            "text/csv" => Format::Csv(Box::new(CsvRows::new())),
            "application/x-ndjson" | "application/ndjson" => Format::Lines(LineRows::default()),
            "application/json" => Format::Array(ArrayRows::default()),
            _ => {
                return Err(Problem::media(
                    "send `text/csv`, `application/x-ndjson` or, as one array, `application/json`",
                ));
            }
        };
        Ok(Rows { format, read: Vec::new(), count: 0 })
    }

    /// Takes the next bytes. What was read before a fault can still be taken.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut out = Out { read: &mut self.read, count: &mut self.count };
        match &mut self.format {
            Format::Csv(rows) => rows.feed(bytes, &mut out),
            Format::Lines(rows) => rows.feed(bytes, &mut out),
            Format::Array(rows) => rows.feed(bytes, &mut out),
        }
    }

    /// The body has ended.
    pub(super) fn end(&mut self) -> Result<(), Problem> {
        let mut out = Out { read: &mut self.read, count: &mut self.count };
        match &mut self.format {
            Format::Csv(rows) => rows.end(&mut out),
            Format::Lines(rows) => rows.end(&mut out),
            Format::Array(rows) => rows.end(&out),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Parsed> {
        std::mem::take(&mut self.read)
    }

    /// All rows so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// Where rows go.
pub(super) struct Out<'a> {
    read: &'a mut Vec<Parsed>,
    count: &'a mut u64,
}

impl Out<'_> {
    /// The number of the next row, counted from 0.
    pub(super) fn next(&self) -> u64 {
        *self.count
    }

    pub(super) fn push(&mut self, row: impl FnOnce(u64) -> Parsed) {
        self.read.push(row(*self.count));
        *self.count += 1;
    }

    pub(super) fn too_long(&self) -> Problem {
        Problem::bad(format!("row {} is longer than {ROW_BYTES_MAX} bytes", self.next()))
    }
}

/// The members of a row as texts.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) device: Option<Cow<'a, str>>,
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) value: Option<Cow<'a, str>>,
    pub(super) unit: Option<Cow<'a, str>>,
    pub(super) quality: Option<Cow<'a, str>>,
}

impl Fields<'_> {
    pub(super) fn parse(self, index: u64) -> Parsed {
        let required = |name: &'static str, text: Option<Cow<'_, str>>| match text {
            Some(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            // An amount has refusals of its own.
            Some(text) if name == "value" => Ok(text.into_owned()),
            Some(_) | None => Err(Rejected {
                index,
                code: "ROW_INCOMPLETE",
                field: Some(name),
                message: format!("the row has no {name}: a row has device, time, value and unit"),
            }),
        };
        let refused = |refusal: &dyn Refusal| {
            let rejected = Rejected::of(index, refusal);
            let field = rejected.field.map(|field| if field == "start" { "time" } else { field });
            Rejected { field, ..rejected }
        };
        let device = required("device", self.device)?;
        let time = Stamp::parse(&required("time", self.time)?).map_err(|e| refused(&e))?;
        let value = required("value", self.value)?;
        let unit = EnergyUnit::parse(&required("unit", self.unit)?).map_err(|e| refused(&e))?;
        let energy_wh = parse_energy(&value, unit).map_err(|e| refused(&e))?;
        let quality = match self.quality.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => Quality::parse(text).map_err(|e| refused(&e))?,
            None => Quality::Measured,
        };
        Ok(SentRow { index, device, time, energy_wh, quality })
    }
}

/// A row as a JSON object. The amount stays text: no number here is ever binary.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow<'a> {
    #[serde(borrow, default)]
    device: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unit: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    quality: Option<Cow<'a, str>>,
}

/// A row from the text of a JSON object.
pub(super) fn json_row(text: &[u8], index: u64) -> Parsed {
    let malformed = || Rejected {
        index,
        code: "ROW_MALFORMED",
        field: None,
        message: "a row is a JSON object with the members device, time, value, unit and perhaps quality, no others; \
                  value is a number or its text, the others are texts"
            .into(),
    };
    // An array would be taken for the members in their order.
    if text.first() != Some(&b'{') {
        return Err(malformed());
    }
    let row: JsonRow<'_> = serde_json::from_slice(text).map_err(|_| malformed())?;
    let value = match row.value.map(RawValue::get) {
        Some(text) if text.starts_with('"') => {
            Some(serde_json::from_str::<Cow<'_, str>>(text).map_err(|_| malformed())?)
        }
        other => other.map(Cow::Borrowed),
    };
    Fields { device: row.device, time: row.time, value, unit: row.unit, quality: row.quality }.parse(index)
}
