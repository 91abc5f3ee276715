//! A text as a tree whose every node knows its place. Bounded in what it may come to, aliases expanded.

use super::{BYTES_MAX, Fault, Place};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::BTreeMap;

/// Lists and mappings within each other.
pub(super) const DEPTH_MAX: usize = 16;
/// What all nodes may come to: of each its text, and [`NODE_COST`].
pub(super) const COST_MAX: usize = 1 << 20;
const NODE_COST: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
    /// What it and all within it come to.
    cost: usize,
    /// Levels within it, itself among them.
    depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Whole(i64),
    /// A number that is not whole, or too large.
    Fraction,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) at: Place,
    pub(super) name: String,
}

/// What is being read, and is not complete yet.
struct Open {
    at: Place,
    anchor: usize,
    of: Of,
}

enum Of {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn fault(at: Place, code: &'static str, message: impl Into<String>) -> Fault {
    Fault { at, path: Vec::new(), code, message: message.into() }
}

fn of_scan(error: &ScanError) -> Fault {
    let at = Place { line: error.marker().line(), column: error.marker().col() + 1 };
    fault(at, "SYNTAX", format!("this is no YAML: {}", super::read::plain(error.info())))
}

/// # Errors
/// The first thing at which reading had to stop.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let start = Place { line: 1, column: 1 };
    if text.len() > BYTES_MAX {
        return Err(fault(start, "TOO_LONG", format!("a manifest's text has at most {BYTES_MAX} bytes; shorten it")));
    }
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| of_scan(&error))?;
        let at = place(span);
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(fault(at, "SYNTAX", "a manifest is one document; put the other one into its own file"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                untagged(at, tag.is_some())?;
                builder.scalar(at, &text, style, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                untagged(at, tag.is_some())?;
                builder.open(at, anchor, Of::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                untagged(at, tag.is_some())?;
                builder.open(at, anchor, Of::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Alias(anchor) => builder.alias(at, anchor)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    builder.root.ok_or_else(|| fault(start, "EMPTY", "there is no manifest here; begin with id, name and version"))
}

fn untagged(at: Place, tagged: bool) -> Result<(), Fault> {
    match tagged {
        false => Ok(()),
        true => Err(fault(at, "SYNTAX", "a manifest has no tags (words that begin with !); remove it")),
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    /// Of everything so far, expanded aliases among it.
    spent: usize,
}

impl Builder {
    fn spend(&mut self, at: Place, cost: usize) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(cost);
        match self.spent <= COST_MAX {
            true => Ok(()),
            false => {
                Err(fault(at, "TOO_LONG", "here the manifest grows beyond all measure; use fewer aliases and fields"))
            }
        }
    }

    fn open(&mut self, at: Place, anchor: usize, of: Of) -> Result<(), Fault> {
        self.spend(at, NODE_COST)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(fault(at, "TOO_MANY", format!("a manifest has at most {DEPTH_MAX} levels; make it flatter")));
        }
        self.open.push(Open { at, anchor, of });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { at, anchor, of }) = self.open.pop() else { return Ok(()) };
        let (value, cost, depth) = match of {
            Of::List(items) => {
                let cost = items.iter().map(|node| node.cost).sum::<usize>();
                let depth = items.iter().map(|node| node.depth).max().unwrap_or_default();
                (Value::List(items), cost, depth)
            }
            Of::Map(members, _) => {
                let cost = members.iter().map(|(key, node)| key.name.len() + node.cost).sum::<usize>();
                let depth = members.iter().map(|(_, node)| node.depth).max().unwrap_or_default();
                (Value::Map(members), cost, depth)
            }
        };
        self.add(anchor, Node { at, value, cost: cost + NODE_COST, depth: depth + 1 })
    }

    fn scalar(&mut self, at: Place, text: &str, style: ScalarStyle, anchor: usize) -> Result<(), Fault> {
        self.spend(at, NODE_COST + text.len())?;
        // Where a key is due, every scalar is one.
        if let Some(Open { of: Of::Map(members, key @ None), .. }) = self.open.last_mut() {
            if members.iter().any(|(known, _)| known.name == text) {
                let message = format!("{} is there already; name it once", super::read::plain(text));
                return Err(fault(at, "DUPLICATE", message));
            }
            *key = Some(Key { at, name: text.to_owned() });
            return Ok(());
        }
        let value = if style == ScalarStyle::Plain { resolved(text) } else { Value::Text(text.to_owned()) };
        self.add(anchor, Node { at, value, cost: NODE_COST + text.len(), depth: 0 })
    }

    fn alias(&mut self, at: Place, anchor: usize) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(fault(at, "SYNTAX", "this alias is of something that it is itself a part of; write it out"));
        };
        let (cost, depth) = (node.cost, node.depth);
        self.spend(at, cost)?;
        if self.open.len() + depth > DEPTH_MAX {
            return Err(fault(at, "TOO_MANY", format!("a manifest has at most {DEPTH_MAX} levels; make it flatter")));
        }
        match self.anchors.get(&anchor).cloned() {
            Some(node) => self.add(0, node),
            None => Ok(()),
        }
    }

    fn add(&mut self, anchor: usize, node: Node) -> Result<(), Fault> {
        if anchor > 0 {
            // Kept a second time.
            self.spend(node.at, node.cost)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.of) {
            None => self.root = Some(node),
            Some(Of::List(items)) => items.push(node),
            Some(Of::Map(members, key)) => match key.take() {
                Some(key) => members.push((key, node)),
                None => return Err(fault(node.at, "SYNTAX", "the name of a field is one word; correct it")),
            },
        }
        Ok(())
    }
}

/// What a scalar without quotes is, by the core schema of YAML 1.2: `yes` and `1.0.0` are texts.
fn resolved(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Flag(true),
        "false" | "False" | "FALSE" => return Value::Flag(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Fraction,
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Value::Fraction;
    }
    let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) if is_of(digits, |b| b.is_ascii_hexdigit()) => i64::from_str_radix(digits, 16),
        (_, Some(digits)) if is_of(digits, |b| matches!(b, b'0'..=b'7')) => i64::from_str_radix(digits, 8),
        _ if is_of(unsigned, |b| b.is_ascii_digit()) => text.parse(),
        _ if is_fraction(unsigned) => return Value::Fraction,
        _ => return Value::Text(text.to_owned()),
    };
    whole.map_or(Value::Fraction, Value::Whole)
}

fn is_of(digits: &str, fits: impl Fn(u8) -> bool) -> bool {
    !digits.is_empty() && digits.bytes().all(fits)
}

/// Digits, perhaps a dot among or before them, perhaps an exponent.
fn is_fraction(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let digits = mantissa.replacen('.', "", 1);
    is_of(&digits, |b| b.is_ascii_digit()) && exponent.is_none_or(|digits| is_of(digits, |b| b.is_ascii_digit()))
}
