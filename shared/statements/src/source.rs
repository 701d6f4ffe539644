//! Bytes into text: decodes the file's encoding as a stream, strictly, and knows the place.

use std::io::{self, BufRead, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use crate::limits::HEAD_BYTES_MAX;
use crate::unreadable::{Cause, Place, Unreadable};

/// Bytes that are decoded at a time.
const CHUNK: usize = 16 << 10;

/// A file as UTF-8. What it gives through [`BufRead`] is valid UTF-8 as a whole; faults come as an
/// [`io::Error`] that holds an [`Unreadable`].
pub(crate) struct Source<'a> {
    input: Box<dyn BufRead + 'a>,
    head: Vec<u8>,
    head_given: usize,
    decoder: Decoder,
    text: Vec<u8>,
    given: usize,
    ended: bool,
    place: Place,
    budget: usize,
}

impl<'a> Source<'a> {
    /// Reads the head of the file. The encoding is UTF-8 until [`Source::decode_as`] says otherwise.
    pub fn new(mut input: Box<dyn BufRead + 'a>) -> Result<Self, Unreadable> {
        let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
        input.by_ref().take(HEAD_BYTES_MAX as u64).read_to_end(&mut head).map_err(|error| failed(Place::START, &error))?;
        Ok(Source {
            input,
            head,
            head_given: 0,
            decoder: UTF_8.new_decoder_with_bom_removal(),
            text: Vec::new(),
            given: 0,
            ended: false,
            place: Place::START,
            budget: usize::MAX,
        })
    }

    /// The first bytes of the file.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Sets the encoding, before anything is read. A byte order mark of that encoding is passed over.
    pub fn decode_as(&mut self, encoding: &'static Encoding) {
        self.decoder = encoding.new_decoder_with_bom_removal();
    }

    /// The place of the next character.
    pub fn place(&self) -> Place {
        self.place
    }

    /// How many more bytes may be taken before the input is refused as too large.
    pub fn allow(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// The next line without its end, or none at the end of the file.
    pub fn line(&mut self, bytes_max: usize) -> Result<Option<String>, Unreadable> {
        let mut line = Vec::new();
        self.allow(bytes_max);
        let start = self.place;
        let read = self.read_until(b'\n', &mut line).map_err(|error| failed(start, &error))?;
        if read == 0 {
            return Ok(None);
        }
        let line = String::from_utf8(line).map_err(|_| start.unreadable(Cause::WrongEncoding, "the line is not text"))?;
        Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.text.resize(CHUNK, 0);
        let (mut written, mut replaced) = (0, None);
        while written == 0 && !self.ended && replaced.is_none() {
            let from_head = self.head_given < self.head.len();
            let bytes = if from_head {
                &self.head[self.head_given..]
            } else {
                // whoever tries again after an error must not be given what has not been read
                self.input.fill_buf().inspect_err(|_| {
                    self.text.clear();
                    self.given = 0;
                })?
            };
            let last = bytes.is_empty();
            let (result, read, wrote) = self.decoder.decode_to_utf8_without_replacement(bytes, &mut self.text[written..], last);
            written += wrote;
            if from_head {
                self.head_given += read;
            } else {
                self.input.consume(read);
            }
            match result {
                DecoderResult::InputEmpty => self.ended = last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => replaced = Some(()),
            }
        }
        self.text.truncate(written);
        self.given = 0;
        if replaced.is_some() {
            let mut place = self.place;
            place.pass(&self.text);
            let encoding = self.decoder.encoding().name();
            return Err(io::Error::other(place.unreadable(Cause::WrongEncoding, format!("the bytes here are not {encoding}"))));
        }
        Ok(())
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.given == self.text.len() {
            self.fill()?;
        }
        if self.budget == 0 && self.given < self.text.len() {
            return Err(io::Error::other(self.place.unreadable(Cause::TooLarge, "a piece of the file is longer than the reader's limit")));
        }
        let until = self.text.len().min(self.given.saturating_add(self.budget));
        Ok(&self.text[self.given..until])
    }

    fn consume(&mut self, count: usize) {
        self.place.pass(&self.text[self.given..self.given + count]);
        self.given += count;
        self.budget = self.budget.saturating_sub(count);
    }
}

/// The fault that an error of a [`Source`] holds; anything else is a failure of the input.
pub(crate) fn failed(place: Place, error: &io::Error) -> Unreadable {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Unreadable>()) {
        Some(unreadable) => unreadable.clone(),
        None => place.unreadable(Cause::Input, format!("the input failed: {error}")),
    }
}
