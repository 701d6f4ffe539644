//! camt.053 and camt.054 of ISO 20022, version 02 and later.

mod parts;
mod statement;
mod transaction;

use crate::Format;
use crate::entry::Entry;
use crate::identity::Identities;
use crate::limits::DISCREPANCIES_MAX;
use crate::source::Source;
use crate::unreadable::{Cause, Place, Unreadable, excerpt};
use crate::xml::{Step, Xml};
use statement::Statement;

/// Depth of elements in which the document may be wrapped, beside a business application header; what is deeper is passed over.
const WRAPPERS_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Outside,
    Document,
    Message,
    Statement,
}

pub(crate) struct Camt<'a> {
    xml: Xml<'a>,
    level: Level,
    wrappers: usize,
    wanted: Option<Format>,
    kind: Option<Format>,
    statements: usize,
    /// Whether the message is one of several pages, so that its sums are of more than this file.
    paged: bool,
    statement: Statement,
    identities: Identities,
    pub discrepancies: Vec<Unreadable>,
}

impl<'a> Camt<'a> {
    /// Begins to read; `wanted` is the kind of message that is accepted, or none for both.
    pub fn new(source: Source<'a>, wanted: Option<Format>) -> Result<Self, Unreadable> {
        Ok(Camt {
            xml: Xml::new(source)?,
            level: Level::Outside,
            wrappers: 0,
            wanted,
            kind: None,
            statements: 0,
            paged: false,
            statement: Statement::default(),
            identities: Identities::default(),
            discrepancies: Vec::new(),
        })
    }

    /// The next entry, or none at the end of a file that is whole.
    pub fn entry(&mut self) -> Result<Option<Entry>, Unreadable> {
        loop {
            // what a wrapper says beside the document is not looked at
            let mut ignored = String::new();
            let within_wrapper = self.level == Level::Outside && self.wrappers > 0;
            match (self.level, self.xml.step(within_wrapper.then_some(&mut ignored))?) {
                (_, Step::End) if self.statements == 0 => return Err(self.refused("no statement or notification")),
                (_, Step::End) => return Ok(None),
                (Level::Outside, Step::Open(name)) if name == "Document" => self.document()?,
                (Level::Outside, Step::Open(_)) if self.wrappers == WRAPPERS_MAX => self.xml.skip()?,
                (Level::Outside, Step::Open(_)) => self.wrappers += 1,
                (Level::Outside, Step::Close) => self.wrappers = self.wrappers.saturating_sub(1),
                (Level::Document, Step::Open(name)) => self.message(&name)?,
                (Level::Document, Step::Close) => {
                    // a wrapper may hold several documents, each of its own version
                    self.xml.expect_any_namespace();
                    self.level = Level::Outside;
                }
                (Level::Message, Step::Open(name)) if name == "GrpHdr" => self.paged = parts::group_header(&mut self.xml)?,
                (Level::Message, Step::Open(name)) if Some(name.as_str()) == self.statement_name() => {
                    self.statements += 1;
                    self.statement = Statement::begin(self.xml.place(), self.paged);
                    self.level = Level::Statement;
                }
                (Level::Message, Step::Open(_)) => self.xml.skip()?,
                (Level::Message, Step::Close) => self.level = Level::Document,
                (Level::Statement, Step::Open(name)) => {
                    if name == "Ntry" {
                        return self.statement.entry(&mut self.xml, &mut self.identities).map(Some);
                    }
                    self.statement.part(&name, &mut self.xml)?;
                }
                (Level::Statement, Step::Close) => {
                    let discrepancy = self.statement.check()?;
                    self.discrepancies.extend(discrepancy.filter(|_| self.discrepancies.len() < DISCREPANCIES_MAX));
                    self.level = Level::Message;
                }
            }
        }
    }

    fn refused(&self, found: &str) -> Unreadable {
        let wanted = match &self.wanted {
            Some(Format::Camt053) => "a camt.053 statement",
            Some(Format::Camt054) => "a camt.054 notification",
            _ => "a camt.053 statement or camt.054 notification",
        };
        let place = if found.is_empty() { Place::START } else { self.xml.place() };
        place.unreadable(Cause::WrongFormat, format!("{wanted} of version 02 or later is expected, found {}", excerpt(found)))
    }

    /// The root: its namespace tells message and version.
    fn document(&mut self) -> Result<(), Unreadable> {
        let namespace = self.xml.namespace().to_owned();
        let name = namespace.rsplit([':', '$']).next().unwrap_or_default();
        let (kind, version) = match name.split_at_checked(12) {
            Some(("camt.053.001", version)) => (Format::Camt053, version),
            Some(("camt.054.001", version)) => (Format::Camt054, version),
            _ if namespace.is_empty() => return Err(self.refused("a document without a namespace")),
            _ => return Err(self.refused(if name.is_empty() { &namespace } else { name })),
        };
        let known = version.strip_prefix('.').filter(|digits| digits.len() == 2).and_then(|digits| digits.parse::<u8>().ok());
        if known.is_none_or(|version| version < 2) || self.wanted.as_ref().is_some_and(|wanted| *wanted != kind) {
            return Err(self.refused(name));
        }
        self.kind = Some(kind);
        self.xml.expect_this_namespace();
        self.level = Level::Document;
        Ok(())
    }

    fn message(&mut self, name: &str) -> Result<(), Unreadable> {
        match (&self.kind, name) {
            (Some(Format::Camt053), "BkToCstmrStmt") | (Some(Format::Camt054), "BkToCstmrDbtCdtNtfctn") => {
                self.paged = false;
                self.level = Level::Message;
                Ok(())
            }
            _ => Err(self
                .xml
                .place()
                .unreadable(Cause::Malformed, format!("the document holds {:?} and no message of its kind", excerpt(name)))),
        }
    }

    fn statement_name(&self) -> Option<&'static str> {
        match self.kind {
            Some(Format::Camt053) => Some("Stmt"),
            Some(Format::Camt054) => Some("Ntfctn"),
            _ => None,
        }
    }
}
