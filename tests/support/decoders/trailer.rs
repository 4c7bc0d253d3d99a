//! Our trailer behind `_metadata`.

use bytes::Bytes;
use drystone::format::{Encoded, Section, Trailer, check_trailer};

use super::{names_its_place, sealed};

/// The input as it is; and as a trailer's fields, behind as many bytes as its first two say.
pub fn read(input: &[u8]) -> bool {
    let _ = check_trailer(&Bytes::copy_from_slice(input));
    let Some((before, fields)) = input.split_first_chunk::<2>() else { return false };
    let before = vec![0x5a; usize::from(u16::from_be_bytes(*before))];
    let is_read = [1, 2].map(|version| read_version(&before, fields, version));
    is_read.contains(&true)
}

fn read_version(before: &[u8], fields: &[u8], version: u32) -> bool {
    let trailer = sealed(&[fields, &(fields.len() as u64 + 20).to_be_bytes()].concat(), b"DSmt", version);
    let file = Bytes::from([before, &trailer].concat());
    let trailer = match Trailer::find(&file).expect("it ends as a trailer does") {
        Ok((offset, trailer)) => {
            assert_eq!(offset, before.len() as u64);
            trailer
        }
        Err(error) => {
            names_its_place(&error, file.len());
            return false;
        }
    };
    let damages = trailer.check(&file);
    assert!(damages.iter().all(|damage| damage.range.end <= before.len() as u64), "{damages:?}");

    let mut at = 0;
    let sections = trailer.sections.iter().map(|section| {
        let start = at;
        at += section.length;
        Section { owner: section.owner, range: start..at }
    });
    let sections: Vec<_> = sections.collect();
    assert_eq!(at, before.len() as u64);
    let encoded = Encoded { bytes: Bytes::copy_from_slice(before), sections, groups: trailer.groups.clone() };
    let again = Trailer::seal(&encoded, trailer.files.clone(), trailer.epoch, trailer.writer.clone());
    let (_, again) = Trailer::find(&again).unwrap().unwrap();
    let told = |trailer: &Trailer| trailer.sections.iter().map(|s| (s.owner, s.length)).collect::<Vec<_>>();
    assert_eq!(told(&again), told(&trailer));
    assert_eq!((again.files, again.epoch, again.writer), (trailer.files, trailer.epoch, trailer.writer));
    assert_eq!(again.groups, trailer.groups);
    true
}
