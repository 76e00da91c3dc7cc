//! The answer to a SHOW: column count, column definitions, an end, rows of texts, an end.

use super::cursor::Cursor;
use super::{Fault, login};

/// Rows and columns of an answer; a check asks for a handful.
const ROWS_MAX: usize = 64;
const COLUMNS_MAX: u64 = 16;

/// Name and value.
pub type Row = (String, String);

pub(super) struct Rows {
    stage: Stage,
    rows: Vec<Row>,
}

enum Stage {
    Count,
    Columns { left: u64 },
    EndOfColumns,
    Rows,
}

impl Rows {
    pub(super) fn new() -> Rows {
        Rows { stage: Stage::Count, rows: Vec::new() }
    }

    /// Takes a packet; the rows after the last one.
    pub(super) fn packet(&mut self, payload: &[u8]) -> Result<Option<Vec<Row>>, Fault> {
        if payload.first() == Some(&0xff) {
            return Err(login::refusal(payload));
        }
        let is_end = payload.first() == Some(&0xfe) && payload.len() < 9;
        self.stage = match self.stage {
            Stage::Count => match Cursor(payload).length() {
                Some(count @ 1..=COLUMNS_MAX) => Stage::Columns { left: count },
                _ => return Err(Fault::Malformed("an answer without rows")),
            },
            Stage::Columns { left } if left > 1 => Stage::Columns { left: left - 1 },
            Stage::Columns { .. } => Stage::EndOfColumns,
            Stage::EndOfColumns if is_end => Stage::Rows,
            Stage::EndOfColumns => return Err(Fault::Malformed("columns without an end")),
            Stage::Rows if is_end => return Ok(Some(std::mem::take(&mut self.rows))),
            Stage::Rows => {
                let row = row(payload).ok_or(Fault::Malformed("a row that is not two texts"))?;
                if self.rows.len() >= ROWS_MAX {
                    return Err(Fault::TooLarge);
                }
                self.rows.push(row);
                Stage::Rows
            }
        };
        Ok(None)
    }
}

fn row(payload: &[u8]) -> Option<Row> {
    let mut cursor = Cursor(payload);
    let mut text = || Some(String::from_utf8_lossy(cursor.string()?).into_owned());
    Some((text()?, text()?))
}
