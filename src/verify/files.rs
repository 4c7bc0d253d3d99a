//! Checks files as wholes: that they are there, their lengths, their footers.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Audit, Finding};
use crate::error::{ErrorKind, FormatError, Result};
use crate::format::footer::TAIL_BYTES;
use crate::format::{Footer, Tail};
use crate::read::{Checkpoint, Content, ReadLimits, State, StateStream, Wanted};
use crate::store::Location;

/// Most footers come whole with this many bytes from the file's end.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;

/// Which files to look at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every one.
    All,
    /// Those of which a later read of what the handles name would not show everything: that spares a request for each of
    /// many small files.
    NotShownByReading,
}

/// Does a read of a stream's bytes show whether its file is there and long enough? Not where nothing is read, and too late
/// where a length that is only claimed may be too much to plan for.
fn shows_on_reading(stream: &StateStream, limits: &ReadLimits) -> bool {
    (1..=limits.range_bytes_max).contains(&stream.content.size())
}

impl Audit {
    /// Checks that files are there, as long as they must be, and that their footers agree with the handles.
    ///
    /// # Errors
    /// A store's error other than "not found".
    pub(crate) async fn files(&mut self, state: &State, limits: &ReadLimits, which: Which) -> Result<()> {
        let mut streams = streams_by_file(state);
        let asked = state.files.iter().enumerate().filter_map(|(number, file)| {
            let streams = streams.get(&number)?;
            let ours = is_ours(streams);
            let is_asked = ours || which == Which::All || streams.iter().any(|s| !shows_on_reading(s, limits));
            is_asked.then(|| (number, file.location.clone(), ours))
        });
        let asked: Vec<(usize, Location, bool)> = asked.collect();
        // The futures own what they need: one that borrows could not be moved between threads.
        let looks = stream::iter(asked)
            .map(|(number, file, ours)| async move { Ok((number, look(file, ours, FOOTER_GUESS_BYTES).await?)) });
        let looks: Result<Vec<(usize, Look)>> = looks.buffered(limits.requests_max.max(1)).try_collect().await;
        for (number, look) in looks? {
            let streams = streams.remove(&number).unwrap_or_default();
            self.file(state, number, &streams, &look);
        }
        Ok(())
    }

    /// Checks that files are there and as long as they must be, by lengths that somebody has asked for: of each file in the
    /// order of `state.files`, `None` where there is none.
    pub(crate) fn by_lengths(&mut self, checkpoint: &Checkpoint, state: &State, lengths: &[Option<u64>]) {
        let streams = streams_by_file(state);
        for (number, length) in lengths.iter().enumerate() {
            let look = length.map_or(Look::Missing, |length| Look::There { length, footer: None });
            self.file(state, number, streams.get(&number).map_or(&[], Vec::as_slice), &look);
        }
        self.trailer_sizes(checkpoint, state);
    }

    /// Checks what a look at a file has shown against the streams in it.
    pub(super) fn file(&mut self, state: &State, number: usize, streams: &[&StateStream], look: &Look) {
        let name = state.files[number].location.real();
        let Look::There { length, footer } = look else {
            for stream in streams {
                self.add(Finding::in_file(name, None, "the file is missing").of(&stream.place));
            }
            return;
        };
        let length = *length;
        self.lengths.insert(number, length);
        for stream in streams {
            let Content::File(wanted) = stream.content else { continue };
            if wanted.offset.saturating_add(wanted.length) > length {
                let problem = format!(
                    "{} bytes are named from offset {}, but the file has {length}",
                    wanted.length, wanted.offset
                );
                self.add(Finding::in_file(name, Some(length), problem).of(&stream.place));
            } else if stream.whole && wanted.length != length {
                let problem = format!("the file has {length} bytes, its handle says {}", wanted.length);
                self.add(Finding::in_file(name, Some(wanted.length), problem).of(&stream.place));
            }
        }
        match footer {
            None => {}
            Some(Err(error)) => {
                // Damage to a footer is nobody's state; to name one of those whose state it indexes helps to find it.
                let problem = format!("damaged: {}: {}", error.field, error.problem);
                let finding = Finding::in_file(name, Some(error.offset), problem);
                self.add(match streams.first() {
                    Some(stream) => finding.of(&stream.place),
                    None => finding,
                });
            }
            Some(Ok(footer)) => self.footer(state, number, streams, footer),
        }
    }

    fn footer(&mut self, state: &State, number: usize, streams: &[&StateStream], footer: &Footer) {
        let name = state.files[number].location.real();
        let mut named = vec![false; footer.segments.len()];
        let before = self.finding_count();
        for stream in streams {
            let (Content::File(wanted), Some(id)) = (&stream.content, stream.id) else { continue };
            let entry = footer.segments.get(id.ordinal as usize);
            let agrees = id.file == footer.token
                && entry.is_some_and(|e| (e.offset, e.length, e.crc32c) == (wanted.offset, wanted.length, id.crc32c));
            if agrees {
                named[id.ordinal as usize] = true;
            } else {
                let problem = format!("the file's footer has no segment {id} of {} bytes here", wanted.length);
                self.add(Finding::in_file(name, Some(wanted.offset), problem).of(&stream.place));
            }
        }
        for (entry, _) in footer.segments.iter().zip(named).filter(|(_, named)| !named) {
            let wanted = Wanted { file: number, offset: entry.offset, length: entry.length };
            self.unnamed.push((wanted, entry.crc32c));
        }
        if self.finding_count() == before {
            self.counts.footers += 1;
        }
    }

    /// Checks that the files are as long as the trailer says.
    pub(crate) fn trailer_sizes(&mut self, checkpoint: &Checkpoint, state: &State) {
        let Some(trailer) = &checkpoint.decoded.trailer else { return };
        let listed: BTreeMap<_, u64> =
            trailer.files.iter().filter_map(|f| Some((checkpoint.listed_path(f)?, f.size))).collect();
        for (number, file) in state.files.iter().enumerate() {
            let (Some(&size), Some(&length)) = (listed.get(&file.name), self.lengths.get(&number)) else {
                continue;
            };
            if size != length {
                let problem = format!("the file has {length} bytes, the metadata's trailer says {size}");
                let places = state.streams.iter().find(|s| matches!(s.content, Content::File(w) if w.file == number));
                let finding = Finding::in_file(file.location.real(), Some(size.min(length)), problem);
                self.add(match places {
                    Some(stream) => finding.of(&stream.place),
                    None => finding,
                });
            }
        }
    }
}

/// A footer, or what is wrong with it.
pub(super) type FooterRead = Result<Footer, FormatError>;

/// What a look at a file has shown.
pub(super) enum Look {
    /// It isn't there.
    Missing,
    /// Its length in bytes, and its footer if it must have one.
    There { length: u64, footer: Option<FooterRead> },
}

/// The streams in each file, by the file's number.
pub(super) fn streams_by_file(state: &State) -> BTreeMap<usize, Vec<&StateStream>> {
    let mut streams: BTreeMap<usize, Vec<&StateStream>> = BTreeMap::new();
    for stream in &state.streams {
        if let Content::File(wanted) = stream.content {
            streams.entry(wanted.file).or_default().push(stream);
        }
    }
    streams
}

/// Did Drystone write the file that these streams are in? Then it has a footer.
pub(super) fn is_ours(streams: &[&StateStream]) -> bool {
    streams.iter().any(|stream| stream.id.is_some())
}

/// Asks for a file's length, and for its footer if it is `ours`, of which so many bytes are read at first.
pub(super) async fn look(file: Location, ours: bool, footer_guess_bytes: u64) -> Result<Look> {
    let length = match file.size().await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Missing),
        length => length?,
    };
    match if ours { Some(footer(&file, length, footer_guess_bytes).await) } else { None }.transpose() {
        // Gone since.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Look::Missing),
        footer => Ok(Look::There { length, footer: footer? }),
    }
}

async fn footer(file: &Location, length: u64, guess_bytes: u64) -> Result<FooterRead> {
    let from = length.saturating_sub(guess_bytes);
    let end = file.read(from..length).await?;
    let tail = match Tail::decode(&end[end.len().saturating_sub(TAIL_BYTES)..], length) {
        Ok(tail) => tail,
        Err(error) => return Ok(Err(error)),
    };
    let footer = match (end.len() as u64).checked_sub(tail.footer_len) {
        Some(start) => end.slice(start as usize..),
        // No byte is read twice.
        None => [file.read(length.saturating_sub(tail.footer_len)..from).await?, end].concat().into(),
    };
    Ok(Footer::decode(footer, length))
}
