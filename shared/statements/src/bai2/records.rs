//! BAI2 lines into records: a record with its continuations, and the fields within.

use std::collections::VecDeque;

use crate::limits::RECORD_BYTES_MAX;
use crate::source::Source;
use crate::unreadable::{Cause, Place, Unreadable, excerpt};

/// Codes of all records.
const CODES: [&str; 8] = ["01", "02", "03", "16", "49", "88", "98", "99"];

/// A record with its continuations.
pub(super) struct Record {
    pub code: String,
    pub place: Place,
    /// One for itself and one for each continuation.
    pub lines: u64,
    pieces: Vec<String>,
}

/// A line as it stands: code, what follows the comma, place.
struct Line {
    code: String,
    content: String,
    place: Place,
}

pub(super) struct Records<'a> {
    source: Source<'a>,
    /// Whether several records stand in one line and texts are broken over lines. Told by the file header, in which no payer
    /// writes: were it told by any line, a payer's text could hold a record.
    run_together: bool,
    ahead: VecDeque<Line>,
    begun: bool,
}

impl<'a> Records<'a> {
    pub fn new(source: Source<'a>) -> Self {
        Records { source, run_together: false, ahead: VecDeque::new(), begun: false }
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.ahead.front().map_or(self.source.place(), |line| line.place)
    }

    /// The next record with its continuations, or none at the end of the file.
    pub fn next(&mut self) -> Result<Option<Record>, Unreadable> {
        self.look()?;
        let Some(first) = self.ahead.pop_front() else { return Ok(None) };
        let mut record = Record { code: first.code, place: first.place, lines: 1, pieces: vec![first.content] };
        let mut bytes = 0;
        loop {
            self.look()?;
            let Some(next) = self.ahead.pop_front_if(|line| line.code == "88" || line.code.is_empty()) else { return Ok(Some(record)) };
            bytes += next.content.len() + 1;
            if bytes > RECORD_BYTES_MAX {
                let what = format!("a record with its continuations has more than {RECORD_BYTES_MAX} bytes");
                return Err(next.place.unreadable(Cause::TooLarge, what));
            }
            if next.code == "88" {
                record.lines += 1;
                record.pieces.push(next.content);
            } else if let Some(piece) = record.pieces.last_mut() {
                piece.push(' ');
                piece.push_str(&next.content);
            }
        }
    }

    /// Reads on until there is a line ahead, or the file ends.
    fn look(&mut self) -> Result<(), Unreadable> {
        while self.ahead.is_empty() {
            let place = self.source.place();
            let Some(text) = self.source.line(RECORD_BYTES_MAX)? else { return Ok(()) };
            let first = !std::mem::replace(&mut self.begun, true);
            if first {
                self.run_together = pieces(&text).len() > 1;
            }
            let parts = if self.run_together { pieces(&text) } else { vec![text.as_str()] };
            let mut start = place;
            for part in parts {
                let blank = part.len() - part.trim_start().len();
                start.pass(&part.as_bytes()[..blank]);
                if !part.trim().is_empty() {
                    let line = self.parse(part.trim(), start)?;
                    self.ahead.push_back(line);
                }
                start.pass(&part.as_bytes()[blank..]);
            }
        }
        Ok(())
    }

    fn parse(&self, text: &str, place: Place) -> Result<Line, Unreadable> {
        if let Some(control) = text.chars().find(|letter| letter.is_control() && *letter != '\t') {
            return Err(place.unreadable(Cause::Malformed, format!("the line holds the control character {control:?}")));
        }
        match text.split_once(',') {
            Some((code, content)) if CODES.contains(&code) => Ok(Line { code: code.into(), content: content.into(), place }),
            _ if self.run_together => Ok(Line { code: String::new(), content: text.into(), place }),
            _ => {
                Err(place.unreadable(Cause::Malformed, format!("a line begins with {:?} and not with the code of a record", excerpt(text))))
            }
        }
    }
}

/// Cuts a line after each `/` behind which another record begins.
fn pieces(line: &str) -> Vec<&str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for (position, _) in line.match_indices('/') {
        let rest = line[position + 1..].trim_start();
        if rest.split_once(',').is_some_and(|(code, _)| CODES.contains(&code)) {
            parts.push(&line[from..=position]);
            from = position + 1;
        }
    }
    parts.push(&line[from..]);
    parts
}

impl Record {
    /// The fields of a record without free text: each of its lines ends with `/`.
    pub fn fields(&self) -> Result<Fields<'_>, Unreadable> {
        let mut lines = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece.split_once('/') {
                Some((content, rest)) if rest.trim().is_empty() => lines.push(content),
                Some(_) => return Err(self.malformed("goes on after its end (/)")),
                None => return Err(self.malformed("does not end with /")),
            }
        }
        Ok(Fields { lines, next: 0, rest: None })
    }

    /// The fields of a record whose last field is free text, where `/` may be missing or part of the text.
    pub fn fields_with_text(&self) -> Fields<'_> {
        let end = |piece: &'_ String| piece.trim_end().strip_suffix('/').map_or(piece.trim_end().len(), str::len);
        Fields { lines: self.pieces.iter().map(|piece| &piece[..end(piece)]).collect(), next: 0, rest: None }
    }

    pub fn malformed(&self, what: &str) -> Unreadable {
        self.place.unreadable(Cause::Malformed, format!("the record {} {what}", self.code))
    }
}

/// The fields of a record, one after the other; a continuation begins with the next field.
pub(super) struct Fields<'r> {
    lines: Vec<&'r str>,
    next: usize,
    rest: Option<&'r str>,
}

impl<'r> Fields<'r> {
    /// The next field, empty where it is omitted; none when there are no more.
    pub fn field(&mut self) -> Option<&'r str> {
        if self.rest.is_none() {
            self.rest = self.lines.get(self.next).copied();
            self.next += 1;
        }
        let (field, rest) = match self.rest?.split_once(',') {
            Some((field, rest)) => (field, Some(rest)),
            None => (self.rest?, None),
        };
        self.rest = rest;
        Some(field.trim())
    }

    /// The next field, or an empty one.
    pub fn or_empty(&mut self) -> &'r str {
        self.field().unwrap_or_default()
    }

    /// All that is left as text, continuations joined by a blank.
    pub fn text(mut self) -> String {
        let rest = self.rest.take().into_iter();
        let lines = rest.chain(self.lines.get(self.next..).unwrap_or_default().iter().copied());
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }
}
