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
    /// Length in bytes; nothing is read for a length of 0.
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

/// The reads that bring every byte of every wanted range, each byte once (but for overlaps of more than two reads).
///
/// Reads come sorted by file and offset; the pieces of one wanted range come in order.
pub fn plan(wanted: &[Wanted], limits: &ReadLimits) -> Vec<Fetch> {
    let mut order: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i].length > 0).collect();
    order.sort_by_key(|&i| (wanted[i].file, wanted[i].offset, wanted[i].length));
    let mut fetches = Vec::new();
    let mut run: Vec<usize> = Vec::new();
    let mut run_end = 0;
    for i in order {
        let want = wanted[i];
        let joins = run
            .last()
            .is_some_and(|&last| wanted[last].file == want.file && want.offset <= run_end + limits.gap_bytes_max);
        if !joins {
            cut(wanted, &run, limits, &mut fetches);
            run.clear();
            run_end = 0;
        }
        run.push(i);
        run_end = run_end.max(want.offset.saturating_add(want.length));
    }
    cut(wanted, &run, limits, &mut fetches);
    fetches
}

/// Cuts a run of neighbouring ranges into reads; a cut falls between two ranges where one ends nearby.
fn cut(wanted: &[Wanted], run: &[usize], limits: &ReadLimits, fetches: &mut Vec<Fetch>) {
    let end_of = |i: usize| wanted[i].offset.saturating_add(wanted[i].length);
    let step = limits.range_bytes_max.max(1);
    let mut open: &[usize] = run;
    let Some(&first) = open.first() else { return };
    let mut at = wanted[first].offset;
    let run_end = run.iter().map(|&i| end_of(i)).max().unwrap_or(at);
    while at < run_end {
        let bound = at.saturating_add(step).min(run_end);
        // Prefer to stop at the end of the last range that fits whole, so that it needn't be put together again.
        let whole = open.iter().map(|&i| end_of(i)).filter(|&e| e > at && e <= bound).max();
        let cut_inside = open.iter().any(|&i| wanted[i].offset < bound && end_of(i) > bound);
        let end = if cut_inside { whole.unwrap_or(bound) } else { bound };
        let overlapping = open.iter().take_while(|&&i| wanted[i].offset < end);
        let mut pieces = Vec::new();
        for &i in overlapping {
            let (start, stop) = (wanted[i].offset.max(at), end_of(i).min(end));
            if start < stop {
                let within = (start - at) as usize..(stop - at) as usize;
                pieces.push(Piece { wanted: i, within, last: stop == end_of(i) });
            }
        }
        if let (Some(low), Some(high)) =
            (pieces.iter().map(|p| p.within.start).min(), pieces.iter().map(|p| p.within.end).max())
        {
            // A read starts and ends at wanted bytes.
            for piece in &mut pieces {
                piece.within = piece.within.start - low..piece.within.end - low;
            }
            let range = at + low as u64..at + high as u64;
            fetches.push(Fetch { file: wanted[first].file, range, pieces });
        }
        at = end;
        while let Some((&i, rest)) = open.split_first() {
            if end_of(i) > at {
                break;
            }
            open = rest;
        }
    }
}
