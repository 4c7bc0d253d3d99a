//! Which reads to make for a set of byte ranges: sorted, coalesced over small gaps, cut to a bounded size.
//!
//! Pure. A request to an object store costs about as much as a megabyte of transfer, so reading over a gap is cheaper
//! than asking twice, and a long range is cut so that its parts can be read side by side within the memory bound.

use std::ops::Range;

/// How much to read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes between two wanted ranges that are read rather than skipped.
    pub gap_bytes_max: u64,
    /// Bytes of one read.
    pub range_bytes_max: u64,
    /// Bytes of all reads that are under way or not yet consumed. A single read may always go ahead.
    pub memory_bytes_max: u64,
    /// Reads under way at once.
    pub requests_max: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { gap_bytes_max: 1 << 20, range_bytes_max: 8 << 20, memory_bytes_max: 64 << 20, requests_max: 32 }
    }
}

/// A byte range that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The file, by its number in the caller's list.
    pub file: usize,
    /// First byte.
    pub offset: u64,
    /// Length in bytes; nothing is read for a length of 0, nor beyond what 64 bits can count.
    pub length: u64,
}

/// One read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The file, by its number in the caller's list.
    pub file: usize,
    /// The bytes to read.
    pub range: Range<u64>,
    /// What they hold, in the order of the offsets.
    pub pieces: Vec<Piece>,
}

impl Fetch {
    /// Bytes that are in no piece.
    pub fn gap_bytes(&self) -> u64 {
        let (mut gaps, mut end) = (0, 0);
        for piece in &self.pieces {
            gaps += piece.within.start.saturating_sub(end);
            end = end.max(piece.within.end);
        }
        (self.range.end - self.range.start).saturating_sub(end as u64) + gaps as u64
    }
}

/// A part of a wanted range that one read brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The wanted range, by its number in the caller's list.
    pub wanted: usize,
    /// Where in the read's bytes.
    pub within: Range<usize>,
    /// Is it the wanted range's last part?
    pub last: bool,
}

/// The reads that bring every byte of every wanted range, each byte once.
///
/// Reads come sorted by file and offset; the pieces of one wanted range come in order. Takes time and memory by the
/// number of reads, so compare a length that nobody has checked with the file's before.
pub fn plan(wanted: &[Wanted], limits: &ReadLimits) -> Vec<Fetch> {
    let mut order: Vec<usize> = (0..wanted.len()).filter(|&i| end_of(&wanted[i]) > wanted[i].offset).collect();
    order.sort_by_key(|&i| (wanted[i].file, wanted[i].offset, wanted[i].length));
    let mut fetches = Vec::new();
    let mut run_start = 0;
    let mut run_end = 0;
    for (position, &i) in order.iter().enumerate() {
        let want = wanted[i];
        let joins = order[run_start..position].last().is_some_and(|&before| {
            wanted[before].file == want.file && want.offset <= u64::saturating_add(run_end, limits.gap_bytes_max)
        });
        if !joins {
            cut(wanted, &order[run_start..position], limits, &mut fetches);
            (run_start, run_end) = (position, 0);
        }
        run_end = run_end.max(end_of(&want));
    }
    cut(wanted, &order[run_start..], limits, &mut fetches);
    fetches
}

fn end_of(want: &Wanted) -> u64 {
    want.offset.saturating_add(want.length)
}

/// Cuts a run of neighbouring ranges into reads; a cut falls between two ranges where one ends nearby.
fn cut(wanted: &[Wanted], run: &[usize], limits: &ReadLimits, fetches: &mut Vec<Fetch>) {
    let mut waiting = run.iter().copied().peekable();
    // Ranges that a read has come to and that aren't all read, by their offsets.
    let mut open: Vec<usize> = Vec::new();
    let mut read_to = 0;
    while let Some(&first) = open.first().or(waiting.peek()) {
        let start = wanted[first].offset.max(read_to);
        let bound = start.saturating_add(limits.range_bytes_max.max(1));
        open.extend(std::iter::from_fn(|| waiting.next_if(|&i| wanted[i].offset < bound)));
        // Prefer to stop at the end of the last range that fits whole, so that it needn't be put together again.
        let end = open.iter().map(|&i| end_of(&wanted[i])).filter(|&end| end <= bound).max().unwrap_or(bound);
        let pieces = open.iter().filter(|&&i| wanted[i].offset < end).map(|&i| {
            let (from, to) = (wanted[i].offset.max(start), end_of(&wanted[i]).min(end));
            Piece { wanted: i, within: (from - start) as usize..(to - start) as usize, last: to == end_of(&wanted[i]) }
        });
        fetches.push(Fetch { file: wanted[first].file, range: start..end, pieces: pieces.collect() });
        open.retain(|&i| end_of(&wanted[i]) > end);
        read_to = end;
    }
}
