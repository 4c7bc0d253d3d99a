//! Which wanted ranges are read from copies on local disks: those of segments whose checksum says that the copy is right.
//!
//! Nothing else is trusted: a range that no checksum covers, or that a copy doesn't hold, is read from the store.

use std::ops::Range;
use std::sync::Arc;

use super::patience::Patience;
use super::plan::{ReadLimits, Wanted};
use crate::backup::{Found, LocalCopy, LocalDirectories};
use crate::store::Location;

/// Of one read of a local disk, which costs next to nothing to ask: what was read is checked while the next is made, and
/// its memory is still in the processor's cache.
const LOCAL_RANGE_BYTES_MAX: u64 = 1 << 20;

/// A local disk isn't asked to read over longer gaps than this: a read more costs less than the copy.
const LOCAL_GAP_BYTES_MAX: u64 = 32 << 10;

/// The limits for local disks.
pub(super) fn local_limits(limits: &ReadLimits) -> ReadLimits {
    let range_bytes_max = limits.range_bytes_max.min(LOCAL_RANGE_BYTES_MAX);
    let gap_bytes_max = limits.gap_bytes_max.min(LOCAL_GAP_BYTES_MAX);
    ReadLimits { range_bytes_max, gap_bytes_max, ..*limits }
}

/// What a wanted range is a part of: a segment's place in its file, and its checksum, if anything says it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) segment: Range<u64>,
    pub(super) crc32c: Option<u32>,
}

/// Where a wanted range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// In the store.
    Store,
    /// In the copy, whose own checksums agree with the segment's.
    Copy,
    /// In the copy, if the bytes, all of the segment, have this checksum.
    Checked { length: u64, crc32c: u32 },
}

/// The copies of some files, by the files' numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    copies: Arc<Vec<Option<LocalCopy>>>,
    /// Of all that is read of them.
    pub(super) patience: Patience,
    /// Copies, and claims on them, that were found to be no good.
    pub(super) refused: u64,
}

impl Copies {
    pub(super) async fn find(local: Option<&LocalDirectories>, files: &[Location]) -> Self {
        let Some(local) = local.cloned() else { return Self::default() };
        let names: Vec<_> = files.iter().map(|file| file.name().clone()).collect();
        let patience = Patience::with(&local);
        let look = patience.ask(move |steps| {
            let mut refused = 0;
            let found = names.iter().map(|name| {
                let found = local.find(name);
                steps.step();
                match found {
                    Found::Copy(copy) => Some(copy),
                    Found::Refused => {
                        refused += 1;
                        None
                    }
                    Found::Nothing => None,
                }
            });
            (found.collect(), refused)
        });
        // Without an answer there are no copies.
        let (copies, refused) = look.await.unwrap_or((Vec::new(), 1));
        Self { copies: Arc::new(copies), patience, refused }
    }

    /// The copy of a file.
    pub(super) fn of(&self, file: usize) -> Option<&LocalCopy> {
        self.copies.get(file)?.as_ref()
    }

    /// Is the file at least so long, as far as a copy can tell?
    pub(super) fn reaches(&self, wanted: &Wanted) -> bool {
        let end = wanted.offset.checked_add(wanted.length);
        self.of(wanted.file).zip(end).is_some_and(|(copy, end)| end <= copy.bytes)
    }

    /// Where each wanted range is to be read. Short segments are checked as they are read; the checksums of the copies of
    /// longer ones are looked at now, since what is read of them is handed on before all of it is there.
    pub(super) async fn trusts(&mut self, wanted: &[Wanted], claims: &[Claim], limits: &ReadLimits) -> Vec<Trust> {
        let short = local_limits(limits).range_bytes_max;
        let mut trusts = vec![Trust::Store; wanted.len()];
        let mut asked: Vec<(Vec<usize>, LocalCopy, Range<u64>, u32)> = Vec::new();
        for (number, (wanted, claim)) in wanted.iter().zip(claims).enumerate() {
            let (Some(copy), Some(crc32c)) = (self.of(wanted.file), claim.crc32c) else { continue };
            let segment = &claim.segment;
            let length = segment.end.saturating_sub(segment.start);
            match asked.last_mut() {
                _ if length <= short && wanted.offset == segment.start && wanted.length == length => {
                    trusts[number] = Trust::Checked { length, crc32c };
                }
                // Several ranges of one segment come one after the other.
                Some((numbers, last, range, crc)) if (&*range, *crc, &last.path) == (segment, crc32c, &copy.path) => {
                    numbers.push(number);
                }
                _ => asked.push((vec![number], copy.clone(), segment.clone(), crc32c)),
            }
        }
        if asked.is_empty() {
            return trusts;
        }
        let asked_segments = asked.len() as u64;
        let ask = self.patience.ask(move |steps| {
            let agree = |(numbers, copy, range, crc): (_, LocalCopy, _, _)| {
                let agrees = copy.agrees(&range, crc).ok();
                steps.step();
                (numbers, agrees)
            };
            asked.into_iter().map(agree).collect::<Vec<_>>()
        });
        let Some(answers) = ask.await else {
            self.refused += asked_segments;
            return trusts;
        };
        for (numbers, agrees) in answers {
            match agrees {
                Some(true) => numbers.into_iter().for_each(|number: usize| trusts[number] = Trust::Copy),
                _ => self.refused += 1,
            }
        }
        trusts
    }
}
