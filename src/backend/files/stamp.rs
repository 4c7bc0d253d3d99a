//! What the disk says of a file, so that one whose checksum is known needn't be read again.
//!
//! A file that is deleted leaves its inode to the next, and the disk's clock is coarse: two files made one right after the
//! other can look the same. So a checksum is remembered only of a file that was younger than the disk's clock when it was
//! read: whatever comes after that, a change or another file, has a later time. No other clock is asked.

use std::collections::BTreeMap;
use std::fs::Metadata;

use super::disk::{Listing, LocalFile};

/// A time of the disk's own clock: seconds, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64, i64);

/// What tells a file from others, as long as it isn't too young.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Moment,
}

/// The checksums that are known, by the files' names.
#[derive(Default)]
pub(super) struct Stamps(BTreeMap<String, (Stamp, u32)>);

impl Moment {
    /// When the disk last noted a change of the file or of its names; `None` where it doesn't say.
    #[cfg(unix)]
    pub(super) fn of_change(found: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self(found.ctime(), found.ctime_nsec()))
    }

    #[cfg(not(unix))]
    pub(super) fn of_change(_: &Metadata) -> Option<Self> {
        None
    }
}

impl Stamp {
    /// `None` where the disk doesn't say enough: then files are read each time.
    #[cfg(unix)]
    pub(super) fn of(found: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let modified = Moment(found.mtime(), found.mtime_nsec());
        Some(Self { device: found.dev(), inode: found.ino(), bytes: found.len(), modified })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Option<Self> {
        None
    }
}

impl Stamps {
    /// The checksum of the very file, if it is known.
    pub(super) fn crc32c(&self, file: &LocalFile) -> Option<u32> {
        let (stamp, crc32c) = self.0.get(&file.name)?;
        (Some(*stamp) == file.stamp).then_some(*crc32c)
    }

    /// Remembers the checksum of a file that was read after the listing.
    pub(super) fn note(&mut self, listing: &Listing, file: &LocalFile, crc32c: u32) {
        match file.stamp {
            Some(stamp) if listing.clock.is_some_and(|clock| stamp.modified < clock) => {
                self.0.insert(file.name.clone(), (stamp, crc32c));
            }
            _ => {
                self.0.remove(&file.name);
            }
        }
    }

    /// Forgets what isn't there any more.
    pub(super) fn retain(&mut self, listing: &Listing) {
        let is_there = |name: &String| listing.files.binary_search_by(|file| file.name.cmp(name)).is_ok();
        self.0.retain(|name, _| is_there(name));
    }
}
