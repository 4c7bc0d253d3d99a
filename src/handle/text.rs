//! Texts as Java's `DataOutput.writeUTF` writes them.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// A text in Java's modified UTF-8, kept in the bytes it was read with.
///
/// NUL is two bytes, a character beyond U+FFFF is a pair of three-byte surrogates, and a lone surrogate is legal:
/// Java strings may hold one. At most 65,535 bytes. Equality is of bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JavaString(Bytes);

/// A text that can't be a [`JavaString`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JavaStringError {
    /// A byte that no sequence may have at its place.
    #[error("not modified UTF-8 at byte {0}")]
    Malformed(usize),
    /// More bytes than a 16-bit length can say.
    #[error("{0} bytes of modified UTF-8, of which 65535 are allowed")]
    TooLong(usize),
}

impl JavaString {
    /// The most bytes that a 16-bit length can say.
    pub const BYTES_MAX: usize = u16::MAX as usize;

    /// Takes encoded bytes without a copy, after checking them.
    pub fn from_encoded(bytes: Bytes) -> Result<Self, JavaStringError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(JavaStringError::TooLong(bytes.len()));
        }
        if is_plain(&bytes) {
            return Ok(Self(bytes));
        }
        let mut rest = &bytes[..];
        while let Some((_, next)) = decode_unit(rest).map_err(|()| {
            let at = bytes.len() - rest.len();
            JavaStringError::Malformed(at)
        })? {
            rest = next;
        }
        Ok(Self(bytes))
    }

    /// Encodes a text.
    pub fn new(text: &str) -> Result<Self, JavaStringError> {
        if is_plain(text.as_bytes()) {
            return match text.len() {
                ..=Self::BYTES_MAX => Ok(Self(Bytes::copy_from_slice(text.as_bytes()))),
                more => Err(JavaStringError::TooLong(more)),
            };
        }
        let mut encoded = Vec::with_capacity(text.len());
        for unit in text.encode_utf16() {
            match unit {
                1..0x80 => encoded.push(unit as u8),
                0 | 0x80..0x800 => encoded.extend([0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8]),
                _ => encoded.extend([
                    0xe0 | (unit >> 12) as u8,
                    0x80 | (unit >> 6 & 0x3f) as u8,
                    0x80 | (unit & 0x3f) as u8,
                ]),
            }
        }
        if encoded.len() > Self::BYTES_MAX {
            return Err(JavaStringError::TooLong(encoded.len()));
        }
        Ok(Self(Bytes::from(encoded)))
    }

    /// The encoded bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// No character at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, without a copy where it is plain ASCII. A lone surrogate becomes U+FFFD.
    pub fn to_text(&self) -> Cow<'_, str> {
        if is_plain(&self.0)
            && let Ok(ascii) = std::str::from_utf8(&self.0)
        {
            return Cow::Borrowed(ascii);
        }
        let mut units = Vec::with_capacity(self.0.len());
        let mut rest = &self.0[..];
        while let Ok(Some((unit, next))) = decode_unit(rest) {
            units.push(unit);
            rest = next;
        }
        Cow::Owned(String::from_utf16_lossy(&units))
    }
}

/// ASCII without NUL: encoded as it is.
fn is_plain(bytes: &[u8]) -> bool {
    // No early end, so that the compiler takes many bytes at once.
    bytes.iter().fold(true, |plain, b| plain & (1..0x80).contains(b))
}

/// The first UTF-16 unit and what comes after it; as lenient as Java's reader, which takes overlong forms.
fn decode_unit(bytes: &[u8]) -> Result<Option<(u16, &[u8])>, ()> {
    let continuation = |b: u8| if b & 0xc0 == 0x80 { Ok(u16::from(b & 0x3f)) } else { Err(()) };
    match *bytes {
        [] => Ok(None),
        [a @ 0..0x80, ref rest @ ..] => Ok(Some((u16::from(a), rest))),
        [a @ 0xc0..0xe0, b, ref rest @ ..] => Ok(Some((u16::from(a & 0x1f) << 6 | continuation(b)?, rest))),
        [a @ 0xe0..0xf0, b, c, ref rest @ ..] => {
            let unit = u16::from(a & 0x0f) << 12 | continuation(b)? << 6 | continuation(c)?;
            Ok(Some((unit, rest)))
        }
        _ => Err(()),
    }
}

impl fmt::Display for JavaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl fmt::Debug for JavaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

impl TryFrom<&str> for JavaString {
    type Error = JavaStringError;

    fn try_from(text: &str) -> Result<Self, JavaStringError> {
        Self::new(text)
    }
}
