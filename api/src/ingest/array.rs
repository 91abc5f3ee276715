//! A JSON array of objects, element by element, without ever holding more than one of them.
//!
//! It only finds where an element ends; whether that is JSON, its parser says, row by row.

use super::answer::Problem;
use super::rows::{Out, ROW_BYTES_MAX, json_row};

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Before,
    /// After `[`: an element or the end.
    First,
    /// Within an element.
    Element,
    /// After `,`: an element.
    Next,
    /// After `]`.
    After,
}

#[derive(Default)]
pub(super) struct ArrayRows {
    at: At,
    element: Vec<u8>,
    depth: u32,
    in_text: bool,
    escaped: bool,
}

impl ArrayRows {
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<(), Problem> {
        for byte in bytes {
            self.step(*byte, out)?;
        }
        Ok(())
    }

    pub(super) fn end(&self, out: &Out<'_>) -> Result<(), Problem> {
        match self.at {
            At::After => Ok(()),
            At::Before => Err(Problem::bad("the body is empty: send a JSON array of rows")),
            At::First | At::Next | At::Element => Err(Problem::bad(format!(
                "the JSON array ends before its `]`, at row {}: the body may have been cut off",
                out.next()
            ))),
        }
    }

    fn step(&mut self, byte: u8, out: &mut Out<'_>) -> Result<(), Problem> {
        let space = byte.is_ascii_whitespace();
        match (self.at, byte) {
            (At::Before | At::First | At::Next | At::After, _) if space => Ok(()),
            (At::Before, b'[') => {
                self.at = At::First;
                Ok(())
            }
            (At::Before, _) => {
                Err(Problem::bad("the body is not a JSON array of rows: it begins with another character"))
            }
            (At::First, b']') => {
                self.at = At::After;
                Ok(())
            }
            (At::First | At::Next, b',' | b']') => {
                Err(Problem::bad(format!("there is nothing where row {} should be", out.next())))
            }
            (At::First | At::Next, _) => {
                self.at = At::Element;
                self.within(byte, out)
            }
            (At::Element, _) => self.within(byte, out),
            (At::After, _) => Err(Problem::bad("something follows the end of the JSON array")),
        }
    }

    fn within(&mut self, byte: u8, out: &mut Out<'_>) -> Result<(), Problem> {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
        } else {
            match byte {
                b',' | b']' if self.depth == 0 => {
                    let element = std::mem::take(&mut self.element);
                    out.push(|index| json_row(element.trim_ascii_end(), index));
                    self.at = if byte == b',' { At::Next } else { At::After };
                    return Ok(());
                }
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        if self.element.len() == ROW_BYTES_MAX {
            return Err(out.too_long());
        }
        self.element.push(byte);
        Ok(())
    }
}
