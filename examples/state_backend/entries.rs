//! Keys, the key groups they belong to, and how they are written next to their values.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use drystone::{Error, ErrorKind, Result};

/// How many key groups the job has. It bounds the parallelism, and can't be changed later.
pub const KEY_GROUPS: u32 = 64;

/// The key group of a key. Every run has to find the same one, so this is no hash that differs between builds: FNV-1a,
/// then mixed, since that leaves its high bits alike for keys that differ in their ends.
pub fn key_group(key: &str) -> u32 {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 40) as u32 % KEY_GROUPS
}

/// Adds a key and its value.
pub fn put(out: &mut BytesMut, key: &str, value: u64) {
    out.put_u32(key.len() as u32);
    out.put_slice(key.as_bytes());
    out.put_u64(value);
}

/// Takes all keys and values out again.
pub fn each(mut bytes: Bytes, mut found: impl FnMut(String, u64)) -> Result<()> {
    while bytes.has_remaining() {
        let length = bytes.try_get_u32().map_err(damaged)? as usize;
        if bytes.remaining() < length {
            return Err(damaged("a key is cut off"));
        }
        let key = String::from_utf8(bytes.split_to(length).into()).map_err(damaged)?;
        found(key, bytes.try_get_u64().map_err(damaged)?);
    }
    Ok(())
}

/// State that isn't what this backend writes.
pub fn damaged(problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Damaged, format!("state of the example: {problem}"))
}
