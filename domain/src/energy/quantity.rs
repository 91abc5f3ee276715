//! Amounts of energy as people and machines write them, read exactly: decimal text and a unit become whole watt-hours.
//!
//! Nothing passes through binary floating point and nothing is rounded: an amount that is no whole number of
//! watt-hours is refused, because whoever rounds must carry the rest to the next slot, and only the sender can.

use crate::aggregate::Refusal;
use std::fmt;

/// The most that one amount may be: 1 TWh. A year of slots of it still fits 64 bits.
pub const ENERGY_WH_MAX: i64 = 1_000_000_000_000;

/// The longest number that is looked at.
pub const NUMBER_CHARS_MAX: usize = 64;

/// A unit of energy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EnergyUnit {
    Wh,
    KWh,
    MWh,
}

impl EnergyUnit {
    pub const ALL: &'static [EnergyUnit] = &[EnergyUnit::Wh, EnergyUnit::KWh, EnergyUnit::MWh];

    /// Case matters, as everywhere in units: `mWh` is a billionth of `MWh`.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        Self::ALL.iter().copied().find(|unit| unit.as_str() == text).ok_or(QuantityError::UnknownUnit)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            EnergyUnit::Wh => "Wh",
            EnergyUnit::KWh => "kWh",
            EnergyUnit::MWh => "MWh",
        }
    }

    /// A unit is 10 to this power watt-hours.
    fn exponent(self) -> i64 {
        match self {
            EnergyUnit::Wh => 0,
            EnergyUnit::KWh => 3,
            EnergyUnit::MWh => 6,
        }
    }
}

impl fmt::Display for EnergyUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no amount of energy. Never repeats the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    #[error("the amount of energy is empty; send a number, or leave the row out")]
    Empty,
    #[error("NaN and infinity are no amounts of energy; leave the row out")]
    NotANumber,
    #[error(
        "an amount of energy is a decimal number such as -12.5 or 1.2e3: a point for the fraction, no thousands separators"
    )]
    Malformed,
    #[error("a number has at most {NUMBER_CHARS_MAX} characters")]
    TooLong,
    #[error("an amount of energy is at most {ENERGY_WH_MAX} Wh either way; check the unit")]
    OutOfRange,
    #[error("the amount is no whole number of Wh; round to whole Wh and carry the rest to the next row")]
    TooPrecise,
    #[error("a unit of energy is Wh, kWh or MWh, spelt exactly so; kW is power and J must be converted first")]
    UnknownUnit,
}

impl Refusal for QuantityError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "ENERGY_EMPTY",
            Self::NotANumber => "ENERGY_NOT_A_NUMBER",
            Self::Malformed => "ENERGY_MALFORMED",
            Self::TooLong => "ENERGY_TOO_LONG",
            Self::OutOfRange => "ENERGY_OUT_OF_RANGE",
            Self::TooPrecise => "ENERGY_TOO_PRECISE",
            Self::UnknownUnit => "ENERGY_UNKNOWN_UNIT",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::UnknownUnit => &["unit"],
            Self::Empty | Self::NotANumber | Self::Malformed | Self::TooLong | Self::OutOfRange | Self::TooPrecise => {
                &["value"]
            }
        }
    }
}

/// A number and its unit in one text, e.g. `1.25 kWh`, in watt-hours.
pub fn parse_quantity(text: &str) -> Result<i64, QuantityError> {
    let text = text.trim();
    // A unit begins with the first letter that no number has; an exponent's `e` is one that numbers have.
    let is_unit = |c: char| c.is_alphabetic() && !matches!(c, 'e' | 'E');
    match text.find(is_unit) {
        Some(at) if at > 0 => {
            let (number, unit) = text.split_at(at);
            match number.trim() {
                // `-inf` and its like are a sign before letters.
                "+" | "-" => parse_energy(text, EnergyUnit::Wh),
                number => parse_energy(number, EnergyUnit::parse(unit)?),
            }
        }
        Some(_) => parse_energy(text, EnergyUnit::Wh).and(Err(QuantityError::Malformed)),
        None if text.is_empty() => Err(QuantityError::Empty),
        None => Err(QuantityError::UnknownUnit),
    }
}

/// A decimal number of that unit, e.g. `-12.5` or `1.2e3`, in watt-hours.
pub fn parse_energy(number: &str, unit: EnergyUnit) -> Result<i64, QuantityError> {
    let number = number.trim();
    if number.is_empty() {
        return Err(QuantityError::Empty);
    }
    if number.len() > NUMBER_CHARS_MAX {
        return Err(QuantityError::TooLong);
    }
    let (negative, unsigned) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    if ["nan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
        return Err(QuantityError::NotANumber);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Malformed);
    }

    let all: String = [whole, fraction].concat();
    let significant = all.trim_end_matches('0');
    // At most NUMBER_CHARS_MAX digits, so nothing here comes near a limit of its type.
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let power = unit.exponent() + exponent - length(fraction) + length(&all) - length(significant);
    let digits = significant.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    if power < 0 {
        return Err(QuantityError::TooPrecise);
    }
    let factor = u32::try_from(power).ok().and_then(|power| 10_i64.checked_pow(power));
    let digits = digits.parse::<i64>().ok();
    match digits.zip(factor).and_then(|(digits, factor)| digits.checked_mul(factor)) {
        Some(wh) if wh <= ENERGY_WH_MAX => Ok(if negative { -wh } else { wh }),
        Some(_) | None => Err(QuantityError::OutOfRange),
    }
}

/// A sign and one to four digits: more would be no amount of energy anyway.
fn parse_exponent(text: &str) -> Result<i64, QuantityError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Malformed);
    }
    text.parse().map_err(|_| QuantityError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[(&str, &str, &str)] = &[
        ("0", "Wh", "0"),
        ("-0", "Wh", "0"),
        ("0.000", "Wh", "0"),
        ("0e9999", "MWh", "0"),
        ("0e-9999", "Wh", "0"),
        ("12", "Wh", "12"),
        (" +12 ", "Wh", "12"),
        ("12.", "Wh", "12"),
        ("12.000", "Wh", "12"),
        ("0012", "Wh", "12"),
        ("1.25", "kWh", "1250"),
        (".25", "kWh", "250"),
        ("-1.25", "kWh", "-1250"),
        // 0.1 + 0.2 and their kind: exact in decimal, not in binary.
        ("0.3", "kWh", "300"),
        ("1.005", "kWh", "1005"),
        ("4.35", "kWh", "4350"),
        ("0.000001", "MWh", "1"),
        ("1e3", "Wh", "1000"),
        ("1.5E+2", "Wh", "150"),
        ("15e-1", "kWh", "1500"),
        ("1000000000000", "Wh", "1000000000000"),
        ("1000000", "MWh", "1000000000000"),
        ("1000000000001", "Wh", "ENERGY_OUT_OF_RANGE"),
        ("1000000.000001", "MWh", "ENERGY_OUT_OF_RANGE"),
        ("-1e13", "Wh", "ENERGY_OUT_OF_RANGE"),
        ("1e308", "Wh", "ENERGY_OUT_OF_RANGE"),
        ("9223372036854775808", "Wh", "ENERGY_OUT_OF_RANGE"),
        ("99999999999999999999999999999999999999", "kWh", "ENERGY_OUT_OF_RANGE"),
        ("0.5", "Wh", "ENERGY_TOO_PRECISE"),
        ("1.2345", "kWh", "ENERGY_TOO_PRECISE"),
        ("1e-9999", "MWh", "ENERGY_TOO_PRECISE"),
        ("", "Wh", "ENERGY_EMPTY"),
        ("  ", "Wh", "ENERGY_EMPTY"),
        ("NaN", "Wh", "ENERGY_NOT_A_NUMBER"),
        ("-inf", "Wh", "ENERGY_NOT_A_NUMBER"),
        ("Infinity", "kWh", "ENERGY_NOT_A_NUMBER"),
        ("1,5", "kWh", "ENERGY_MALFORMED"),
        ("1 000", "Wh", "ENERGY_MALFORMED"),
        ("1_000", "Wh", "ENERGY_MALFORMED"),
        ("0x10", "Wh", "ENERGY_MALFORMED"),
        ("1.2.3", "Wh", "ENERGY_MALFORMED"),
        ("--1", "Wh", "ENERGY_MALFORMED"),
        (".", "Wh", "ENERGY_MALFORMED"),
        ("-", "Wh", "ENERGY_MALFORMED"),
        ("1e", "Wh", "ENERGY_MALFORMED"),
        ("1e99999", "Wh", "ENERGY_MALFORMED"),
        ("e3", "Wh", "ENERGY_MALFORMED"),
        ("1e+-3", "Wh", "ENERGY_MALFORMED"),
        ("١٢", "Wh", "ENERGY_MALFORMED"),
        ("null", "Wh", "ENERGY_MALFORMED"),
        ("1\0", "Wh", "ENERGY_MALFORMED"),
        ("12", "kwh", "ENERGY_UNKNOWN_UNIT"),
        ("12", "mWh", "ENERGY_UNKNOWN_UNIT"),
        ("12", "kW", "ENERGY_UNKNOWN_UNIT"),
        ("12", "J", "ENERGY_UNKNOWN_UNIT"),
        ("12", "", "ENERGY_UNKNOWN_UNIT"),
    ];

    fn outcome(result: Result<i64, QuantityError>) -> String {
        result.map_or_else(|refusal| refusal.code().to_owned(), |wh| wh.to_string())
    }

    #[test]
    fn a_number_and_its_unit_are_read_exactly_or_refused_by_name() {
        for (number, unit, expected) in TABLE {
            let read = EnergyUnit::parse(unit).and_then(|unit| parse_energy(number, unit));
            assert_eq!(&outcome(read), expected, "{number:?} {unit}");
        }
        assert_eq!(parse_energy(&"1".repeat(65), EnergyUnit::Wh), Err(QuantityError::TooLong));
    }

    #[test]
    fn a_number_and_its_unit_may_stand_in_one_text() {
        for (text, expected) in [
            ("1.25 kWh", "1250"),
            ("1.25kWh", "1250"),
            (" -3 Wh ", "-3"),
            ("1e3 Wh", "1000"),
            ("2 MWh", "2000000"),
            ("12", "ENERGY_UNKNOWN_UNIT"),
            ("12 kW", "ENERGY_UNKNOWN_UNIT"),
            ("12 kWh h", "ENERGY_UNKNOWN_UNIT"),
            ("kWh", "ENERGY_MALFORMED"),
            ("", "ENERGY_EMPTY"),
            ("NaN", "ENERGY_NOT_A_NUMBER"),
            ("-inf", "ENERGY_NOT_A_NUMBER"),
            ("1,5 kWh", "ENERGY_MALFORMED"),
        ] {
            assert_eq!(outcome(parse_quantity(text)), expected, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn every_whole_amount_reads_back_from_every_unit(wh in -ENERGY_WH_MAX..=ENERGY_WH_MAX) {
            let (sign, size) = (if wh < 0 { "-" } else { "" }, wh.unsigned_abs());
            prop_assert_eq!(parse_energy(&wh.to_string(), EnergyUnit::Wh), Ok(wh));
            let kilo = format!("{sign}{}.{:03}", size / 1_000, size % 1_000);
            prop_assert_eq!(parse_energy(&kilo, EnergyUnit::KWh), Ok(wh));
            let mega = format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000);
            prop_assert_eq!(parse_energy(&mega, EnergyUnit::MWh), Ok(wh));
            prop_assert_eq!(parse_quantity(&format!("{mega} MWh")), Ok(wh));
        }

        #[test]
        fn no_text_makes_it_panic_and_no_amount_passes_the_limit(text in "[-+]?[0-9.eE,]{0,70}|\\PC{0,20}") {
            for unit in EnergyUnit::ALL {
                prop_assert!(parse_energy(&text, *unit).map_or(true, |wh| wh.abs() <= ENERGY_WH_MAX));
            }
            prop_assert!(parse_quantity(&text).map_or(true, |wh| wh.abs() <= ENERGY_WH_MAX));
        }
    }
}
