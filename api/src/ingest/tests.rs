//! Bodies come in pieces of any size; what is read from them is the same.

use super::rows::{Parsed, ROW_BYTES_MAX, Rows};
use axum::http::{HeaderMap, HeaderValue, header};

fn rows(media: &'static str) -> Rows {
    let headers: HeaderMap = [(header::CONTENT_TYPE, HeaderValue::from_static(media))].into_iter().collect();
    Rows::of(&headers).expect("a format")
}

/// What is read from a body that comes in pieces of so many bytes, and how it ends.
fn read(media: &'static str, body: &[u8], piece: usize) -> (Vec<Parsed>, Result<(), String>) {
    let mut rows = rows(media);
    let fed = body.chunks(piece).try_for_each(|chunk| rows.feed(chunk)).and_then(|()| rows.end());
    let read = rows.take();
    assert_eq!(rows.count(), read.len() as u64);
    (read, fed.map_err(|problem| format!("{problem:?}")))
}

const CSV: &str = "device,time,value,unit,quality\r\n\
    M-1,2016-01-01T00:00Z,250,Wh,\r\n\
    \"M-1\",2016-01-01T00:15Z,\"0.25\",kWh,ESTIMATED\n\
    \"M \"\"2\"\",\n x\",2016-01-01T00:30Z,1,Wh,\n\
    short,row\n\
    \n\
    Zähler,27.03.2016 02:15,NaN,Wh,";

const LINES: &str = "{\"device\":\"M-1\",\"time\":\"2016-01-01T00:00Z\",\"value\":250,\"unit\":\"Wh\"}\r\n\n\
    {\"device\":\"Z\\u00e4hler \\\"]},[\",\"time\":\"2016-01-01 00:15\",\"value\":\"2.5e-1\",\"unit\":\"kWh\",\"quality\":\"ESTIMATED\"}\n\
    {\"device\": [1, {\"a\": \"}\"}]}\n\
    7\n\
    {\"device\":\"M-1\",\"time\":\"2016-01-01T00:30Z\",\"value\":0.30000000000000000004,\"unit\":\"kWh\"}";

#[test]
fn a_body_in_pieces_is_the_same_as_in_one() {
    let array = format!(" [{}] ", LINES.replace("\r\n\n", "\n").replace('\n', ","));
    let bodies = [("text/csv", CSV), ("application/x-ndjson", LINES), ("application/json", array.as_str())];
    for (media, body) in bodies {
        let whole = read(media, body.as_bytes(), body.len());
        assert_eq!((whole.0.len(), &whole.1), (5, &Ok(())), "{media}: {whole:?}");
        assert_eq!(
            whole.0.iter().filter(|row| row.is_ok()).count(),
            if media == "text/csv" { 3 } else { 2 },
            "{whole:?}"
        );
        for piece in 1..40 {
            assert_eq!(read(media, body.as_bytes(), piece), whole, "{media} in pieces of {piece}");
        }
    }
}

#[test]
fn quotes_and_escapes_are_not_mistaken_for_structure() {
    let (csv, _) = read("text/csv", CSV.as_bytes(), 7);
    assert_eq!(csv[2].as_ref().expect("a row").device, "M \"2\",\n x");
    let (json, _) = read("application/json", format!("[{}]", LINES.lines().nth(2).expect("a row")).as_bytes(), 3);
    assert_eq!(json[0].as_ref().expect("a row").device, "Zähler \"]},[");
}

#[test]
fn no_number_is_rounded_on_its_way() {
    let (read, _) = read("application/x-ndjson", LINES.as_bytes(), 11);
    let refused = read[4].as_ref().expect_err("a fraction of a watt-hour");
    assert_eq!((refused.index, refused.code), (4, "ENERGY_TOO_PRECISE"));
}

#[test]
fn a_row_without_end_is_refused_before_it_fills_the_memory() {
    for (media, begin) in [
        ("text/csv", "device,time,value,unit\n\""),
        ("application/x-ndjson", "{\"device\":\""),
        ("application/json", "[\""),
    ] {
        let mut rows = rows(media);
        rows.feed(begin.as_bytes()).expect("so far so good");
        let pieces = std::iter::repeat_n([b'x'; 100], 2 * ROW_BYTES_MAX / 100);
        let fed: usize = pieces.map(|piece| rows.feed(&piece)).take_while(Result::is_ok).count();
        assert!(fed <= ROW_BYTES_MAX / 100, "{media} took {fed} hundred bytes");
    }
}

#[test]
fn bytes_that_are_no_text_are_a_row_at_fault() {
    let (csv, ended) = read("text/csv", b"device,time,value,unit\nM\xff,2016-01-01T00:00Z,1,Wh\n", 5);
    assert_eq!((csv[0].as_ref().expect_err("no text").code, ended), ("ROW_MALFORMED", Ok(())));
    let (json, ended) = read("application/json", b"[{\"device\":\"M\xff\"}]", 5);
    assert_eq!((json[0].as_ref().expect_err("no text").code, ended), ("ROW_MALFORMED", Ok(())));
}
