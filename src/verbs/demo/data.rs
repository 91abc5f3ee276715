//! The data set that the demo loads: a year of quarter-hours of forty meters, in local wall time.
//!
//! `demo/data/README.md` says where it comes from and what its licence asks for.

use csv::{ReaderBuilder, StringRecord};
use flate2::read::GzDecoder;
use std::io::Read;

const METERS: &[u8] = include_bytes!("../../../demo/data/meters.csv");
const READINGS: &[u8] = include_bytes!("../../../demo/data/readings.csv.gz");

/// The zone of every stamp.
pub const ZONE: &str = "Europe/Berlin";
/// Seconds per slot.
pub const RESOLUTION_S: i64 = 900;

/// One meter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meter {
    /// Serial number, and the column of its readings: `M01`.
    pub serial: String,
    pub name: String,
    /// `load` or `generation`.
    pub kind: String,
    /// `meter`, `heat_pump`, `ev_charger` or `pv`.
    pub device: String,
    pub peak_w: i64,
}

/// A day of the file: its stamps in the file's order, and per stamp the energy of every meter in Wh.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Day {
    /// `01.01.2016`
    pub date: String,
    /// `01.01.2016 00:00`, 92, 96 or 100 of them.
    pub slots: Vec<(String, Vec<i64>)>,
}

/// The files are part of the program: what is wrong with them is a defect of the build.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("the demo's data cannot be read; build Daybook from a whole checkout")]
    Csv(#[from] csv::Error),
    #[error("the demo's data has {0:?} where a number should be; build Daybook from a whole checkout")]
    Number(String),
}

pub fn meters() -> Result<Vec<Meter>, DataError> {
    let mut reader = ReaderBuilder::new().from_reader(METERS);
    let mut meters = Vec::new();
    for record in reader.records() {
        let record = record?;
        let field = |n: usize| record.get(n).unwrap_or_default().to_owned();
        meters.push(Meter {
            serial: field(0),
            name: field(1),
            kind: field(2),
            device: field(3),
            peak_w: watts(&field(5))?,
        });
    }
    Ok(meters)
}

/// `5.2` kilowatts in watts, without a detour over binary fractions.
fn watts(kilowatts: &str) -> Result<i64, DataError> {
    let wrong = || DataError::Number(kilowatts.to_owned());
    let (whole, fraction) = kilowatts.split_once('.').unwrap_or((kilowatts, ""));
    if fraction.len() > 3 {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<3}").parse().map_err(|_| wrong())
}

/// The days of the year, in the file's order, read as they are asked for.
pub struct Days {
    records: csv::StringRecordsIntoIter<Box<dyn Read + Send>>,
    ahead: Option<StringRecord>,
}

pub fn days() -> Days {
    let file: Box<dyn Read + Send> = Box::new(GzDecoder::new(READINGS));
    Days { records: ReaderBuilder::new().from_reader(file).into_records(), ahead: None }
}

impl Days {
    fn next_record(&mut self) -> Result<Option<StringRecord>, DataError> {
        match self.ahead.take() {
            Some(record) => Ok(Some(record)),
            None => Ok(self.records.next().transpose()?),
        }
    }

    fn next_day(&mut self) -> Result<Option<Day>, DataError> {
        let mut day = Day::default();
        while let Some(record) = self.next_record()? {
            let stamp = record.get(0).unwrap_or_default();
            let date = stamp.split(' ').next().unwrap_or_default();
            if day.slots.is_empty() {
                date.clone_into(&mut day.date);
            } else if day.date != date {
                self.ahead = Some(record);
                break;
            }
            let values = record.iter().skip(1).map(|v| v.parse().map_err(|_| DataError::Number(v.to_owned())));
            day.slots.push((stamp.to_owned(), values.collect::<Result<_, _>>()?));
        }
        Ok((!day.slots.is_empty()).then_some(day))
    }
}

impl Iterator for Days {
    type Item = Result<Day, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_day().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_year_is_whole_and_its_totals_are_those_that_were_published() {
        let meters = meters().unwrap();
        let mut sums = vec![(0u64, 0i64); meters.len()];
        let mut lengths = BTreeMap::new();
        for day in days() {
            let day = day.unwrap();
            *lengths.entry(day.slots.len()).or_insert(0) += 1;
            for (_, values) in &day.slots {
                assert_eq!(values.len(), meters.len());
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = (sum.0 + 1, sum.1 + value);
                }
            }
        }
        // 27 March is short and 30 October long.
        assert_eq!(lengths, BTreeMap::from([(92, 1), (96, 364), (100, 1)]));
        let totals = include_str!("../../../demo/data/totals.csv");
        for ((meter, (count, sum)), line) in meters.iter().zip(sums).zip(totals.lines().skip(1)) {
            assert!(line.starts_with(&format!("{},{count},{sum},", meter.serial)), "{line}");
        }
    }

    #[test]
    fn kilowatts_become_watts_exactly() {
        assert_eq!(watts("5.2").unwrap(), 5_200);
        assert_eq!(watts("0.035").unwrap(), 35);
        assert_eq!(watts("12").unwrap(), 12_000);
        assert!(watts("1.2345").is_err() && watts("x").is_err());
    }
}
