//! Buffers that have been written to a file and are filled again, since fresh memory costs more than the copy into it.

use std::sync::PoisonError;

use bytes::{Bytes, BytesMut};

use crate::sync::{Mutex, MutexGuard};

/// The size of a buffer that short segments are gathered in.
pub(super) const BUFFER_BYTES: usize = 1 << 20;
/// As many as a file of the usual size takes. They stay as long as whoever shares them.
const SPARES_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Spares {
    /// Never held across an await, nor while another lock is taken.
    buffers: Mutex<Vec<BytesMut>>,
}

impl Spares {
    /// An empty buffer of [`BUFFER_BYTES`], if there is one.
    pub(super) fn take(&self) -> Option<BytesMut> {
        self.buffers().pop()
    }

    /// Keeps the buffers that nobody refers to any more, as many as may be.
    pub(super) fn give_back(&self, written: Vec<Bytes>) {
        for bytes in written {
            let Ok(mut buffer) = bytes.try_into_mut() else { continue };
            buffer.clear();
            if buffer.capacity() == BUFFER_BYTES {
                let mut buffers = self.buffers();
                if buffers.len() < SPARES_MAX {
                    buffers.push(buffer);
                }
            }
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_has_it_any_more_and_not_before() {
        let spares = Spares::default();
        let written = || {
            let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
            buffer.extend_from_slice(&[1; 100]);
            buffer.freeze()
        };
        let held = written();
        spares.give_back(vec![held.clone()]);
        assert!(spares.take().is_none());
        assert_eq!(held, [1; 100].as_slice());
        spares.give_back(vec![written(), Bytes::from_static(b"of another size")]);
        let spare = spares.take().unwrap();
        assert_eq!((spare.len(), spare.capacity()), (0, BUFFER_BYTES));
        assert!(spares.take().is_none());
        spares.give_back((0..=SPARES_MAX).map(|_| written()).collect());
        assert_eq!(std::iter::from_fn(|| spares.take()).count(), SPARES_MAX);
    }
}
