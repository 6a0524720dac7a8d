//! The rows of one table of a SQLite database, read from its bytes (<https://www.sqlite.org/fileformat2.html>).
//!
//! A reader of our own and not SQLite itself: the bytes are hostile, one table without an index is
//! all that is asked for, and with every page read at most once the bounds are easy to see. SQLite
//! would be C in front of hostile bytes, and a file on disk, because reading from memory through
//! rusqlite 0.32 needs unsafe code.
//!
//! ```text
//! page 1       100 bytes of file header, then the root of the table of tables
//! page n       type, count of cells, where they are; cells grow from the page's end
//! cell         leaf: bytes of payload, row id, payload, first page of what does not fit
//!              inner: page below, greatest row id there
//! payload      types of all columns, then their values
//! ```

use crate::Check;
use std::borrow::Cow;

/// What every SQLite 3 database starts with.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// Columns of one row that are looked at; the table of tables has five.
const MAX_COLUMNS: usize = 16;

/// A value of a row. Numbers that are no integers are not told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
    Real,
}

/// Reads tables. No page is read twice, and all payloads together have no more bytes than the file.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Bytes of a page without those that are reserved at its end.
    usable: usize,
    seen: Vec<bool>,
    payload_left: usize,
    /// Where the payloads of rows are: first byte and the one behind the last.
    live: Vec<(usize, usize)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Check<Reader<'a>> {
        if !bytes.starts_with(MAGIC) || bytes.len() < 100 {
            return Err("it is not a SQLite database".into());
        }
        let page_size = match be(bytes, 16, 2) {
            1 => 65536,
            size => size,
        };
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err(format!("its pages have {page_size} bytes"));
        }
        if !bytes.len().is_multiple_of(page_size) {
            return Err(format!("its {} bytes are no whole number of pages of {page_size}", bytes.len()));
        }
        let usable = page_size - be(bytes, 20, 1);
        if usable < 480 {
            return Err("too much of its pages is reserved".into());
        }
        // 0 is a database without a table.
        if be(bytes, 56, 4) > 1 {
            return Err("its text is not UTF-8".into());
        }
        let pages = bytes.len() / page_size;
        Ok(Reader { bytes, page_size, usable, seen: vec![false; pages], payload_left: bytes.len(), live: Vec::new() })
    }

    /// Where the payloads are of all rows that were shown, in order.
    pub(super) fn live(mut self) -> Vec<(usize, usize)> {
        self.live.sort_unstable();
        self.live
    }

    /// Shows every row of the table, in order of row ids. False: there is no such table.
    pub(super) fn rows(&mut self, table: &str, mut show: impl FnMut(i64, &[Value<'_>]) -> Check<()>) -> Check<bool> {
        let mut roots = Vec::new();
        self.walk(1, &mut |_, row| {
            if let [Value::Text(b"table"), Value::Text(name), _, Value::Integer(root), _] = row
                && *name == table.as_bytes()
            {
                roots.push(*root);
            }
            Ok(())
        })?;
        match roots[..] {
            [] => Ok(false),
            [root] => {
                let root = usize::try_from(root).map_err(|_| format!("its table {table} is on page {root}"))?;
                self.walk(root, &mut show).map(|()| true)
            }
            _ => Err(format!("it has {} tables {table}", roots.len())),
        }
    }

    fn walk(&mut self, root: usize, show: &mut dyn FnMut(i64, &[Value<'_>]) -> Check<()>) -> Check<()> {
        let mut todo = vec![root];
        let mut last = None;
        while let Some(number) = todo.pop() {
            let page = self.page(number)?;
            let start = if number == 1 { 100 } else { 0 };
            let kind = be(page, start, 1);
            let cells = be(page, start + 3, 2);
            let table = match kind {
                0x0d => start + 8,
                0x05 => start + 12,
                _ => return Err(format!("page {number} is of type {kind}, which is not a table's")),
            };
            if table + 2 * cells > self.usable {
                return Err(format!("page {number} has {cells} cells, which do not fit"));
            }
            let cell_at = |cell: usize| page.get(be(page, table + 2 * cell, 2)..).unwrap_or_default();
            if kind == 0x05 {
                todo.push(be(page, start + 8, 4));
                todo.extend((0..cells).rev().map(|cell| be(cell_at(cell), 0, 4)));
                continue;
            }
            for cell in 0..cells {
                let cell = cell_at(cell);
                let (length, rest) = varint(cell).ok_or_else(|| format!("a cell of page {number} is cut off"))?;
                let (row, rest) = varint(rest).ok_or_else(|| format!("a cell of page {number} is cut off"))?;
                let row = row.cast_signed();
                if last.is_some_and(|last| last >= row) {
                    return Err(format!("row {row} of page {number} is out of order"));
                }
                last = Some(row);
                let start = number * self.page_size - (self.page_size - self.usable) - rest.len();
                let payload = self.payload(length, rest, start).map_err(|why| format!("row {row}: {why}"))?;
                let values = record(&payload).ok_or_else(|| format!("row {row} is not one"))?;
                show(row, &values).map_err(|why| format!("row {row}: {why}"))?;
            }
        }
        Ok(())
    }

    /// A page that was not asked for before, without what is reserved.
    fn page(&mut self, number: usize) -> Check<&'a [u8]> {
        let index = number.checked_sub(1).ok_or("it leads to page 0")?;
        match self.seen.get_mut(index) {
            None => return Err(format!("it leads to page {number} and has {}", self.seen.len())),
            Some(seen) if *seen => return Err(format!("it leads to page {number} twice")),
            Some(seen) => *seen = true,
        }
        let start = index * self.page_size;
        self.bytes.get(start..start + self.usable).ok_or_else(|| format!("page {number} is cut off"))
    }

    /// The payload that begins with `local`, which is `at` in the file, and what overflow pages hold of it (section 1.6).
    fn payload(&mut self, length: u64, local: &'a [u8], at: usize) -> Check<Cow<'a, [u8]>> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.payload_left);
        let length = length.ok_or("it has more bytes than the database")?;
        self.payload_left -= length;
        let most = self.usable - 35;
        if length <= most {
            self.live.push((at, at + length));
            return local.get(..length).map(Cow::Borrowed).ok_or_else(|| "it is cut off".into());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = least + (length - least) % (self.usable - 4);
        let here = if here <= most { here } else { least };
        let (start, rest) = local.split_at_checked(here).filter(|(_, rest)| rest.len() >= 4).ok_or("it is cut off")?;
        self.live.push((at, at + here));
        let mut payload = Vec::with_capacity(length);
        payload.extend_from_slice(start);
        let mut next = be(rest, 0, 4);
        while payload.len() < length {
            let (number, data) = self.page(next)?.split_at_checked(4).ok_or("a page is cut off")?;
            let data = &data[..data.len().min(length - payload.len())];
            payload.extend_from_slice(data);
            let start = (next - 1) * self.page_size + 4;
            self.live.push((start, start + data.len()));
            next = be(number, 0, 4);
        }
        Ok(Cow::Owned(payload))
    }
}

/// The values of a row; none if it is malformed.
fn record(payload: &[u8]) -> Option<Vec<Value<'_>>> {
    let (size, rest) = varint(payload)?;
    let (head, mut body) = payload.split_at_checked(usize::try_from(size).ok()?)?;
    let mut types = head.get(payload.len() - rest.len()..)?;
    let mut values = Vec::new();
    while !types.is_empty() && values.len() < MAX_COLUMNS {
        let (kind, rest) = varint(types)?;
        types = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let (value, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
        body = rest;
        values.push(match kind {
            0 => Value::Null,
            7 => Value::Real,
            8 | 9 => Value::Integer(i64::from(kind == 9)),
            1..=6 => {
                let sign = value.first().is_some_and(|byte| *byte >= 0x80);
                let bits = value.iter().fold(if sign { u64::MAX } else { 0 }, |number, byte| number << 8 | u64::from(*byte));
                Value::Integer(bits.cast_signed())
            }
            kind if kind % 2 == 0 => Value::Blob(value),
            _ => Value::Text(value),
        });
    }
    Some(values)
}

/// A number of at most four bytes, big endian; 0 where there are none.
fn be(bytes: &[u8], at: usize, width: usize) -> usize {
    bytes.get(at..at + width).map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// A number of one to nine bytes: seven bits each while the top bit is set, all eight of the ninth.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        if index == 8 {
            return Some((number << 8 | u64::from(*byte), &bytes[9..]));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if *byte < 0x80 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}
