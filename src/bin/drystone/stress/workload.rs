//! What is written: sizes, bytes, and which chunks are reused. A pure function of the seed, and the same, bit for bit,
//! as that of the bench it is compared with (`PeerBench`), which is written in Java.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use drystone::config::MemorySize;

/// Which chunk: the checkpoint that first wrote it, the subtask, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkId {
    pub checkpoint: u64,
    pub subtask: u32,
    pub segment: u32,
}

/// How long chunks are.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All of so many bytes.
    Fixed(u64),
    /// `median * e^(sigma * z)` with a normal `z`, at least 1 and at most `max`.
    Lognormal { median: u64, sigma: f64, max: u64 },
}

/// Chunks that are longer don't fit the other bench's arrays.
const CHUNK_BYTES_MAX: u64 = 1 << 30;

/// A chunk starts somewhere in the first so many bytes of the payload.
const OFFSETS: u64 = 1 << 16;

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("'{text}' isn't fixed:SIZE or lognormal:MEDIAN:SIGMA[:MAX]");
        let bytes = |part: &str| match part.parse() {
            Ok(MemorySize(bytes)) if (1..=CHUNK_BYTES_MAX).contains(&bytes) => Ok(bytes),
            _ => Err(format!("{}: sizes are from 1 to {}, as in 4kb", form(), MemorySize(CHUNK_BYTES_MAX))),
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["fixed", size] => Ok(Self::Fixed(bytes(size)?)),
            ["lognormal", median, sigma, ref max @ ..] if max.len() <= 1 => {
                let sigma = match sigma.parse::<f64>() {
                    Ok(sigma) if (0.0..=10.0).contains(&sigma) => sigma,
                    _ => return Err(format!("{}: sigma is from 0 to 10", form())),
                };
                let median = bytes(median)?;
                let max = max.first().map_or(Ok((64 * median).min(CHUNK_BYTES_MAX)), |max| bytes(max))?;
                Ok(Self::Lognormal { median, sigma, max })
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "fixed:{size}"),
            Self::Lognormal { median, sigma, max } => write!(f, "lognormal:{median}:{sigma}:{max}"),
        }
    }
}

/// The generator.
pub struct Workload {
    sizes: Sizes,
    seed: i64,
    reuse: f64,
    payload: Bytes,
}

impl Workload {
    /// Of each chunk that an earlier checkpoint has, the share `reuse` is reused.
    pub fn new(sizes: Sizes, seed: i64, reuse: f64) -> Self {
        let longest = match sizes {
            Sizes::Fixed(size) => size,
            Sizes::Lognormal { max, .. } => max,
        };
        let payload = java_random_bytes(7, (longest + OFFSETS + 16) as usize).into();
        Self { sizes, seed, reuse, payload }
    }

    /// The length of a chunk in bytes.
    pub fn size(&self, chunk: ChunkId) -> u64 {
        match self.sizes {
            Sizes::Fixed(size) => size,
            Sizes::Lognormal { median, sigma, max } => {
                let (u1, u2) = (unit(self.hash(chunk, 1)), unit(self.hash(chunk, 2)));
                let z = (-2.0 * u1.ln()).sqrt() * (2.0 * PI * u2).cos();
                // As Java rounds: a half goes up.
                let size = (median as f64 * (sigma * z).exp() + 0.5).floor();
                (size as u64).min(max).max(1)
            }
        }
    }

    /// Does the checkpoint want the chunk that the one before has at this place?
    pub fn wants_reuse(&self, chunk: ChunkId) -> bool {
        self.reuse > 0.0 && unit(self.hash(chunk, 3)) < self.reuse
    }

    /// The bytes of a chunk.
    pub fn bytes(&self, chunk: ChunkId) -> &[u8] {
        let offset = ((self.hash(chunk, 4) >> 40) & (OFFSETS - 1)) as usize;
        &self.payload[offset..offset + self.size(chunk) as usize]
    }

    fn hash(&self, chunk: ChunkId, salt: u64) -> u64 {
        let parts = [chunk.checkpoint, u64::from(chunk.subtask), u64::from(chunk.segment), salt];
        parts.iter().fold(mix(self.seed as u64), |hash, part| mix(hash ^ part))
    }
}

/// SplitMix64.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Between 0 and 1, and neither.
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// What `new java.util.Random(seed).nextBytes(bytes)` gives.
fn java_random_bytes(seed: u64, length: usize) -> Vec<u8> {
    const MULTIPLIER: u64 = 0x5_deec_e66d;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = (seed ^ MULTIPLIER) & MASK;
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xb) & MASK;
        bytes.extend_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: i64, sizes: &str, reuse: f64) -> Workload {
        Workload::new(sizes.parse().unwrap(), seed, reuse)
    }

    fn chunk(checkpoint: u64, subtask: u32, segment: u32) -> ChunkId {
        ChunkId { checkpoint, subtask, segment }
    }

    fn sizes(workload: &Workload) -> Vec<u64> {
        (0..16).map(|i| workload.size(chunk(1, i / 8, i % 8))).collect()
    }

    /// All of these were computed with the formulas of the Java program.
    #[test]
    fn sizes_are_those_of_the_java_program() {
        let expected: [(i64, u64, [u64; 16]); 3] = [
            (
                42,
                8_210_535_594_561_766_158,
                [3118, 4966, 2882, 4521, 1579, 2642, 8315, 1988, 13325, 589, 9471, 1829, 8220, 5917, 1888, 1359],
            ),
            (
                7,
                6_624_969_448_761_585_946,
                [8216, 656, 768, 1823, 740, 3588, 7370, 1940, 5097, 1147, 589, 851, 1812, 7051, 1931, 4905],
            ),
            (
                -1,
                16_105_272_953_277_358_777,
                [1717, 2064, 20157, 17516, 782, 2556, 1765, 8866, 237, 3076, 33774, 42220, 1011, 2675, 23578, 1856],
            ),
        ];
        for (seed, hash, list) in expected {
            let workload = workload(seed, "lognormal:4096:1.0:262144", 0.0);
            assert_eq!(workload.hash(chunk(1, 2, 3), 1), hash);
            assert_eq!(sizes(&workload), list);
        }
    }

    #[test]
    fn twenty_thousand_sizes_are_those_of_the_java_program() {
        for (seed, sum, hash) in
            [(42, 1_239_415_259, 2_105_794_074_083_900_685_u64), (7, 1_259_512_567, 7_616_689_634_718_414_499)]
        {
            let workload = workload(seed, "lognormal:20000:1.5:4000000", 0.0);
            let all = (1..=10).flat_map(|c| (0..64).flat_map(move |t| (0..32).map(move |s| chunk(c, t, s))));
            let list: Vec<u64> = all.map(|chunk| workload.size(chunk)).collect();
            assert_eq!(list.iter().sum::<u64>(), sum);
            assert_eq!(list.iter().fold(0_u64, |h, size| h.wrapping_mul(31).wrapping_add(*size)), hash);
        }
    }

    #[test]
    fn reuse_and_offsets_are_those_of_the_java_program() {
        let workload = workload(42, "fixed:16", 0.5);
        let reused: Vec<u8> = (0..16).map(|s| u8::from(workload.wants_reuse(chunk(2, 3, s)))).collect();
        assert_eq!(reused, [1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 1]);
        for (segment, offset) in [35310, 47412, 12142, 55358, 14082, 25344].into_iter().enumerate() {
            assert_eq!(workload.bytes(chunk(2, 3, segment as u32)), &workload.payload[offset..offset + 16]);
        }
    }

    #[test]
    fn bytes_are_those_of_java_util_random() {
        assert_eq!(
            java_random_bytes(7, 16).iter().map(|b| *b as i8).collect::<Vec<_>>(),
            [-103, 23, 15, -69, 24, 52, 119, -93, 90, -108, -55, -65, 57, 11, 119, 2]
        );
        for (length, hash) in [(1, 153), (5, 142_004_142), (200_000, 4_670_174_964_413_526_962_u64)] {
            let bytes = java_random_bytes(7, length);
            assert_eq!(bytes.iter().fold(0_u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b))), hash);
        }
    }

    #[test]
    fn sizes_are_read_and_shown_as_the_java_program_does() {
        assert_eq!("fixed:4096".parse(), Ok(Sizes::Fixed(4096)));
        assert_eq!("fixed:4kb".parse(), Ok(Sizes::Fixed(4096)));
        assert_eq!("lognormal:2 kb:1:1mb".parse(), Ok(Sizes::Lognormal { median: 2048, sigma: 1.0, max: 1 << 20 }));
        let lognormal = |max| Sizes::Lognormal { median: 100, sigma: 1.5, max };
        assert_eq!("lognormal:100:1.5".parse(), Ok(lognormal(6400)));
        assert_eq!("lognormal:100:1.5:7".parse(), Ok(lognormal(7)));
        assert_eq!(lognormal(7).to_string(), "lognormal:100:1.5:7");
        for bad in [
            "",
            "fixed",
            "fixed:0",
            "fixed:2gb",
            "fixed:x",
            "uniform:1",
            "lognormal:1",
            "lognormal:1:-1",
            "lognormal:1:1:1:1",
        ] {
            assert!(bad.parse::<Sizes>().unwrap_err().contains("lognormal:MEDIAN:SIGMA"), "{bad}");
        }
    }
}
