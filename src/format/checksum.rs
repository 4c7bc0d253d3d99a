//! CRC-32C, and the checksummed end that our trailer and footer share.
//!
//! The only module that names the checksum crate.

use crc_fast::CrcAlgorithm;

use super::Result;
use super::input::Input;
use super::output::Output;

/// CRC-32C (Castagnoli) of the bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32C of two runs of bytes one after the other, from the checksum of each and the length of the second.
pub fn combined(first: u32, second: u32, second_bytes: u64) -> u32 {
    moved(first, second_bytes) ^ second
}

/// CRC-32C of the second of two runs of bytes, from that of both together, that of the first, and the length of the second.
pub fn parted(both: u32, first: u32, second_bytes: u64) -> u32 {
    moved(first, second_bytes) ^ both
}

/// What a checksum comes to in that of more bytes, so many behind those that it is of: a product of polynomials over two
/// elements, modulo the checksum's own; the factor is x to the power of the bits. The checksum crate works its factor out
/// anew for each call, which takes 8 to 80 us where this takes 2 to 30 ns.
fn moved(crc: u32, bytes: u64) -> u32 {
    let (mut moved, mut left) = (crc, bytes);
    // Of none nothing comes, however far: so is it with the first piece of any.
    while left > 0 && moved != 0 {
        moved = product(moved, &FACTORS[left.trailing_zeros() as usize]);
        left &= left - 1;
    }
    moved
}

/// What each value of each four bits of a checksum comes to, the lowest first, by a factor.
type Factor = [[u32; 16]; 8];

fn product(crc: u32, factor: &Factor) -> u32 {
    factor.iter().enumerate().fold(0, |sum, (place, values)| sum ^ values[(crc >> (place * 4)) as usize & 0xf])
}

/// By the place of a bit in a number of bytes: x to the power of eight times that.
static FACTORS: [Factor; 64] = {
    let mut factors = [[[0; 16]; 8]; 64];
    // The highest bit stands for x to the power of 0.
    let (mut power, mut bit) = (1 << (31 - 8), 0);
    while bit < 64 {
        factors[bit] = factor(power);
        power = times(power, power);
        bit += 1;
    }
    factors
};

const fn factor(power: u32) -> Factor {
    let mut factor = [[0; 16]; 8];
    let mut place = 0;
    while place < 8 {
        let mut value = 1_usize;
        while value < 16 {
            // The lowest bit, and the others, which came before.
            let lowest = value & value.wrapping_neg();
            factor[place][value] = match value == lowest {
                true => times((value as u32) << (place * 4), power),
                false => factor[place][lowest] ^ factor[place][value ^ lowest],
            };
            value += 1;
        }
        place += 1;
    }
    factor
}

const fn times(one: u32, other: u32) -> u32 {
    let (mut product, mut power, mut bit) = (0, other, 32);
    while bit > 0 {
        bit -= 1;
        product ^= power & (one >> bit & 1).wrapping_neg();
        power = by_x(power);
    }
    product
}

const fn by_x(power: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    (power >> 1) ^ (POLYNOMIAL & (power & 1).wrapping_neg())
}

/// CRC-32C of bytes that come in pieces. A number, which moves for nothing: the checksum crate's own state is some 300 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = combined(self.0, crc32c(bytes), bytes.len() as u64);
    }

    /// The checksum of all pieces so far.
    pub fn value(&self) -> u32 {
        self.0
    }
}

/// The end of a block that is found from the end of its file: CRC-32C, magic, version; 4 bytes each.
pub(super) const SEAL_BYTES: usize = 12;

/// Which block it is, and in which version; of several that are known, in the newest.
#[derive(Clone, Copy)]
pub(super) struct Seal {
    pub name: &'static str,
    pub magic: u32,
    pub version: u32,
}

impl Seal {
    /// The same in the version that the block says, which `bytes` end with, if that is one from `oldest` on.
    pub fn in_version_of(&self, bytes: &[u8], oldest: u32) -> Self {
        let said = bytes.last_chunk().copied().map(u32::from_be_bytes);
        let known = said.filter(|version| (oldest..=self.version).contains(version));
        Self { version: known.unwrap_or(self.version), ..*self }
    }

    /// Does the slice, which ends where the block ends, end with the magic?
    pub fn ends(&self, bytes: &[u8]) -> bool {
        bytes.len() >= SEAL_BYTES && bytes[..bytes.len() - 4].ends_with(&self.magic.to_be_bytes())
    }

    /// Ends the block that began at `start`. The checksum covers all of it but itself.
    pub fn close(&self, output: &mut Output, start: usize) {
        let mut crc = Crc32c::new();
        crc.update(&output.as_slice()[start..]);
        crc.update(&self.magic.to_be_bytes());
        crc.update(&self.version.to_be_bytes());
        output.u32(crc.value());
        output.u32(self.magic);
        output.u32(self.version);
    }

    /// Reads magic and version at the cursor, behind the checksum, which it returns.
    pub fn read(&self, input: &mut Input) -> Result<u32> {
        let crc = input.u32("checksum")?;
        let at = input.offset();
        if input.u32("magic")? != self.magic {
            return Err(input.error_at(at, "magic", format!("not the end of a {}", self.name)));
        }
        let at = input.offset();
        match input.u32("version")? {
            version if version == self.version => Ok(crc),
            version => {
                let problem = format!("version {version} of the {}, of which {} is known", self.name, self.version);
                Err(input.error_at(at, "version", problem))
            }
        }
    }

    /// The checksum that the whole block should carry; it must be at least [`SEAL_BYTES`] long.
    pub fn expected(&self, block: &[u8]) -> u32 {
        let mut crc = Crc32c::new();
        let checksum_at = block.len().saturating_sub(SEAL_BYTES);
        crc.update(&block[..checksum_at]);
        crc.update(&self.magic.to_be_bytes());
        crc.update(&self.version.to_be_bytes());
        crc.value()
    }
}

impl Seal {
    /// What to say of a block of `len` bytes at `start` whose checksum is `read` and should be `expected`: the byte of
    /// the one flipped bit that explains it, else where the checksum is.
    pub fn mismatch(&self, start: u64, len: usize, read: u32, expected: u32) -> (u64, String) {
        let problem = format!("{read:08x}, where the bytes give {expected:08x}");
        let (difference, checksum_at) = (read ^ expected, (len - SEAL_BYTES) as u64);
        let within = match flipped_bit(difference, (len - 4) as u64) {
            Some(at) if at < checksum_at => at,
            // Of its own bits each has a byte, the highest first.
            None if difference.is_power_of_two() => checksum_at + u64::from(difference.leading_zeros() / 8),
            _ => return (start + checksum_at, problem),
        };
        (start + within, format!("{problem}: one flipped bit, in the byte at this offset, explains it"))
    }
}

/// Where the one bit was flipped that turns a checksum into another, `difference` being one XOR the other: the offset
/// of its byte in `len` bytes. `None` where no single bit explains it.
pub fn flipped_bit(difference: u32, len: u64) -> Option<u64> {
    // From 2^31 - 1 bits on, positions repeat.
    const BITS_MAX: u64 = (1 << 31) - 1;
    let mut effect = by_x(1);
    for from_end in 0..len.saturating_mul(8).min(BITS_MAX) {
        if effect == difference {
            return Some(len - 1 - from_end / 8);
        }
        effect = by_x(effect);
    }
    None
}
