//! XML as a stream of elements: no document types, no entities but the five of XML, bounded in every direction.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use quick_xml::errors::{Error, IllFormedError, SyntaxError};
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use crate::limits::{ATTRIBUTES_MAX, DEPTH_MAX, ENTRY_BYTES_MAX, PIECE_BYTES_MAX, TEXT_CHARACTERS_MAX};
use crate::source::{Source, failed};
use crate::unreadable::{Cause, Place, Unreadable, excerpt};
use crate::values::tidy;

/// One step through the document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An element of this local name begins; the name is empty when it is of another namespace than [`Xml::expect`] says.
    Open(String),
    /// The current element ends.
    Close,
    /// The document ends.
    End,
}

pub(crate) struct Xml<'a> {
    reader: NsReader<Source<'a>>,
    buffer: Vec<u8>,
    depth: usize,
    place: Place,
    namespace: String,
    expected: Option<String>,
    currency: Option<String>,
    entry_from: u64,
    encoding: &'static Encoding,
    begun: bool,
    root_closed: bool,
}

impl<'a> Xml<'a> {
    /// Finds the encoding and begins.
    pub fn new(mut source: Source<'a>) -> Result<Self, Unreadable> {
        let encoding = declared_encoding(source.head())?;
        source.decode_as(encoding);
        let mut reader = NsReader::from_reader(source);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        Ok(Xml {
            reader,
            buffer: Vec::new(),
            depth: 0,
            place: Place::START,
            namespace: String::new(),
            expected: None,
            currency: None,
            entry_from: 0,
            encoding,
            begun: false,
            root_closed: false,
        })
    }

    /// Where the last step began.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The namespace of the element that was opened last.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// From now on only elements of the current namespace have names.
    pub fn expect_this_namespace(&mut self) {
        self.expected = Some(self.namespace.clone());
    }

    /// From now on elements of every namespace have names.
    pub fn expect_any_namespace(&mut self) {
        self.expected = None;
    }

    /// The `Ccy` attribute of the element that was opened last.
    pub fn currency(&mut self) -> Option<String> {
        self.currency.take()
    }

    /// An entry begins: its bytes are counted from here.
    pub fn begin_entry(&mut self) {
        self.entry_from = self.reader.buffer_position();
    }

    /// The next child of the current element, or none when it ends.
    pub fn child(&mut self) -> Result<Option<String>, Unreadable> {
        match self.step(None)? {
            Step::Open(name) => Ok(Some(name)),
            Step::Close => Ok(None),
            Step::End => Err(self.place.unreadable(Cause::Truncated, "the file ends within an element")),
        }
    }

    /// Passes over the rest of the current element.
    pub fn skip(&mut self) -> Result<(), Unreadable> {
        let until = self.depth - 1;
        let mut ignored = String::new();
        while self.depth > until {
            ignored.clear();
            self.step(Some(&mut ignored))?;
        }
        Ok(())
    }

    /// The text of the current element, which has no children.
    pub fn text(&mut self) -> Result<String, Unreadable> {
        let mut text = String::new();
        match self.step(Some(&mut text))? {
            Step::Close => self.value(&text),
            _ => Err(self.place.unreadable(Cause::Malformed, "a value has elements within it")),
        }
    }

    /// The first text in the current element or in one below it: for what is a value in old versions and a choice of elements in new ones.
    pub fn first_text(&mut self) -> Result<String, Unreadable> {
        let (until, mut found) = (self.depth - 1, String::new());
        while self.depth > until {
            let mut text = String::new();
            self.step(Some(&mut text))?;
            if found.is_empty() {
                found = self.value(&text)?;
            }
        }
        Ok(found)
    }

    fn value(&self, text: &str) -> Result<String, Unreadable> {
        if text.chars().count() > TEXT_CHARACTERS_MAX {
            return Err(self.place.unreadable(Cause::TooLarge, format!("a value has more than {TEXT_CHARACTERS_MAX} characters")));
        }
        tidy(text).ok_or_else(|| self.place.unreadable(Cause::Malformed, "a value has control characters"))
    }

    /// Steps to the next begin or end of an element. Text on the way is added to `text`; without
    /// one, anything but blanks is refused.
    pub fn step(&mut self, mut text: Option<&mut String>) -> Result<Step, Unreadable> {
        loop {
            if self.depth > 2 && self.reader.buffer_position() - self.entry_from > ENTRY_BYTES_MAX as u64 {
                return Err(self.place.unreadable(Cause::TooLarge, format!("an entry has more than {ENTRY_BYTES_MAX} bytes")));
            }
            let source = self.reader.get_mut();
            source.allow(PIECE_BYTES_MAX);
            self.place = source.place();
            let place = self.place;
            self.buffer.clear();
            let event = self.reader.read_event_into(&mut self.buffer).map_err(|error| broken(place, &error))?;
            let first = !std::mem::replace(&mut self.begun, true);
            match event {
                Event::Start(start) => {
                    if self.root_closed {
                        return Err(place.unreadable(Cause::Malformed, "the file goes on after its root element"));
                    }
                    self.depth += 1;
                    if self.depth > DEPTH_MAX {
                        return Err(place.unreadable(Cause::TooLarge, format!("elements are nested deeper than {DEPTH_MAX}")));
                    }
                    self.currency = currency_attribute(&start, place)?;
                    let (namespace, name) = self.reader.resolver().resolve_element(start.name());
                    let namespace = match namespace {
                        ResolveResult::Bound(namespace) => namespace.into_inner(),
                        ResolveResult::Unbound => "",
                        ResolveResult::Unknown(prefix) => {
                            return Err(place.unreadable(Cause::Malformed, format!("the prefix {prefix:?} is not declared")));
                        }
                    };
                    if let Some(expected) = &self.expected {
                        return Ok(Step::Open(if expected == namespace { name.into_inner().into() } else { String::new() }));
                    }
                    self.namespace = namespace.into();
                    return Ok(Step::Open(name.into_inner().into()));
                }
                Event::End(_) => {
                    self.depth -= 1;
                    self.root_closed = self.depth == 0;
                    return Ok(Step::Close);
                }
                Event::Eof if self.depth > 0 => {
                    return Err(place.unreadable(Cause::Truncated, format!("the file ends within {} open elements", self.depth)));
                }
                Event::Eof => return Ok(Step::End),
                Event::Text(piece) => gather(text.as_deref_mut(), &piece.xml10_content(), place)?,
                Event::CData(piece) => gather(text.as_deref_mut(), &piece.xml10_content(), place)?,
                Event::GeneralRef(reference) => gather(text.as_deref_mut(), resolve(&reference, place)?.encode_utf8(&mut [0; 4]), place)?,
                Event::DocType(_) => return Err(place.unreadable(Cause::Entity, "a document type declaration is not allowed")),
                Event::Decl(declaration) if first => check_declaration(&declaration, self.encoding, place)?,
                Event::Decl(_) => return Err(place.unreadable(Cause::Malformed, "an XML declaration stands only at the beginning")),
                Event::Comment(_) | Event::PI(_) | Event::Empty(_) => {}
            }
        }
    }
}

fn gather(text: Option<&mut String>, piece: &str, place: Place) -> Result<(), Unreadable> {
    match text {
        Some(text) if text.len() + piece.len() > PIECE_BYTES_MAX => {
            Err(place.unreadable(Cause::TooLarge, format!("a text has more than {PIECE_BYTES_MAX} bytes")))
        }
        Some(text) => {
            text.push_str(piece);
            Ok(())
        }
        None if piece.trim_matches([' ', '\t', '\n', '\r']).is_empty() => Ok(()),
        None => Err(place.unreadable(Cause::Malformed, format!("text where elements are expected: {:?}", excerpt(piece.trim())))),
    }
}

fn resolve(reference: &BytesRef<'_>, place: Place) -> Result<char, Unreadable> {
    let name = reference.xml10_content();
    let character = match name.as_ref() {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => reference.resolve_char_ref().map_err(|_| place.unreadable(Cause::Entity, "a character reference is not valid"))?,
    };
    character.ok_or_else(|| place.unreadable(Cause::Entity, format!("the entity {:?} is not one of XML's own", excerpt(&name))))
}

fn currency_attribute(start: &BytesStart<'_>, place: Place) -> Result<Option<String>, Unreadable> {
    let mut currency = None;
    for (number, attribute) in start.attributes().enumerate() {
        let attribute = attribute.map_err(|error| place.unreadable(Cause::Malformed, error.to_string()))?;
        if number >= ATTRIBUTES_MAX {
            return Err(place.unreadable(Cause::TooLarge, format!("an element has more than {ATTRIBUTES_MAX} attributes")));
        }
        if attribute.key.as_ref() == "Ccy" {
            currency = Some(attribute.value.trim().to_owned());
        }
    }
    Ok(currency)
}

/// The encoding by byte order mark, else by the XML declaration, else UTF-8.
fn declared_encoding(head: &[u8]) -> Result<&'static Encoding, Unreadable> {
    if let Some((encoding, _)) = Encoding::for_bom(head) {
        return Ok(encoding);
    }
    let wrong = |what: String| Place::START.unreadable(Cause::WrongEncoding, what);
    if head.starts_with(b"<\0") || head.starts_with(b"\0<") {
        return Err(wrong("UTF-16 without a byte order mark is not read".into()));
    }
    let head: String = head.iter().take(200).map(|&byte| char::from(byte)).collect();
    let declaration = head.split_once("?>").map_or("", |(declaration, _)| declaration);
    let Some((_, rest)) = declaration.split_once("encoding").filter(|_| head.starts_with("<?xml")) else { return Ok(UTF_8) };
    let label = rest.trim_start_matches([' ', '\t', '\r', '\n', '=', '"', '\'']).split(['"', '\'', ' ']).next().unwrap_or_default();
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => {
            Err(wrong(format!("the file declares {label} and is not written in it")))
        }
        Some(encoding) => Ok(encoding),
        None => Err(wrong(format!("the encoding {:?} is not known", excerpt(label)))),
    }
}

fn check_declaration(declaration: &BytesDecl<'_>, used: &'static Encoding, place: Place) -> Result<(), Unreadable> {
    declaration.version().map_err(|error| place.unreadable(Cause::Malformed, error.to_string()))?;
    let Some(label) = declaration.encoding() else { return Ok(()) };
    let label = label.map_err(|error| place.unreadable(Cause::Malformed, error.to_string()))?;
    let utf_16 = |encoding: &Encoding| encoding == UTF_16LE || encoding == UTF_16BE;
    let named = Encoding::for_label(label.as_bytes());
    if named.is_some_and(|named| named == used || utf_16(named) && utf_16(used)) {
        return Ok(());
    }
    Err(place.unreadable(Cause::WrongEncoding, format!("the file declares {:?} and begins as {}", excerpt(&label), used.name())))
}

fn broken(place: Place, error: &Error) -> Unreadable {
    let cause = match error {
        Error::Io(error) => return failed(place, error),
        Error::Syntax(SyntaxError::InvalidBangMarkup) => Cause::Malformed,
        Error::Syntax(_) | Error::IllFormed(IllFormedError::MissingEndTag(_)) => Cause::Truncated,
        Error::Encoding(_) => Cause::WrongEncoding,
        _ => Cause::Malformed,
    };
    place.unreadable(cause, excerpt(&error.to_string()))
}
